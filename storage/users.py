"""What is known of users: the profile that their last token carried. Nobody needs one to be a member."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from storage.batcher import Batcher
from storage.membership import Clock
from storage.mongo import BulkWriteError, Document, Mongo, UpdateOne, is_outage

REMEMBERED_MAX = 20_000
"""Profiles seen by this process that need no second look; about 5 MB."""
READS_AT_ONCE: Final = 32
"""Callers that share a read; each may ask for 200 users, and a query should stay below the 10,000."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Profile:
    """How a user wants to be shown."""

    name: str | None
    avatar: str | None


NO_PROFILE: Final = Profile(None, None)
"""What is shown of a user of whom nothing is known."""


@dataclass(frozen=True, slots=True)
class _Version:
    """A profile, and when the token was issued that carried it."""

    profile: Profile
    issued_at: datetime

    def replaces(self, other: "_Version | None") -> bool:
        return other is None or (self != other and self.issued_at >= other.issued_at)


class UserStore:
    """Profiles by user id. The profile of the token issued last counts, in whatever order the tokens come in.

    Reads and writes of one loop tick are one operation each, and what this process has seen last is skipped.
    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._users = mongo["users"]
        self._clock = clock
        self._seen: OrderedDict[str, _Version] = OrderedDict()
        self._writes = Batcher(self._flush_writes)
        self._reads = Batcher(self._flush_reads, batch_max=READS_AT_ONCE)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._writes.close()
        await self._reads.close()

    async def upsert(self, user_id: str, profile: Profile, issued_at: datetime = EPOCH) -> bool:
        """Keep this as the user's profile, unless a later token's is there; returns whether it is another than before.

        Of tokens without a time of issue, and of the same time, the one that comes last counts.
        """
        # Whole milliseconds, as they come back from the store.
        version = _Version(profile, issued_at.replace(microsecond=issued_at.microsecond // 1000 * 1000))
        seen = self._seen.get(user_id)
        if not version.replaces(seen):
            self._seen.move_to_end(user_id)
            return False
        return await self._writes.submit((user_id, version))

    async def profiles(self, user_ids: Sequence[str]) -> dict[str, Profile]:
        """The known ones of these users' profiles."""
        return await self._reads.submit(user_ids)

    async def _flush_reads(self, requests: list[Sequence[str]]) -> list[dict[str, Profile]]:
        found = await self._find({user_id for user_ids in requests for user_id in user_ids})
        return [{user_id: found[user_id].profile for user_id in user_ids if user_id in found} for user_ids in requests]

    async def _flush_writes(self, writes: list[tuple[str, _Version]]) -> list[bool]:
        latest: dict[str, _Version] = {}
        for user_id, version in writes:
            if version.replaces(latest.get(user_id)):
                latest[user_id] = version
        known = await self._find(latest)
        changed = {user_id: version for user_id, version in latest.items() if version.replaces(known.get(user_id))}
        if changed:
            await self._write(changed)
        for user_id, version in latest.items():
            self._remember(user_id, version if user_id in changed else known[user_id])
        told = {
            user_id
            for user_id, version in changed.items()
            if version.profile != (known[user_id].profile if user_id in known else NO_PROFILE)
        }
        # One caller of each user is told of the change.
        return [latest[user_id] is version and user_id in told for user_id, version in writes]

    async def _write(self, versions: dict[str, _Version]) -> None:
        now = self._clock()
        try:
            await self._users.bulk_write(
                [_update(user_id, version, now) for user_id, version in versions.items()], ordered=False
            )
        except BulkWriteError as error:
            # A key that is taken: another node has just kept the profile of a later token.
            if is_outage(error):
                raise

    async def _find(self, user_ids: "Sequence[str] | set[str] | dict[str, _Version]") -> dict[str, _Version]:
        fields = {"name": 1, "avatar": 1, "issuedAt": 1}
        documents = await self._users.find({"_id": {"$in": list(user_ids)}}, fields).to_list(None)
        return {
            document["_id"]: _Version(
                Profile(document.get("name"), document.get("avatar")), document.get("issuedAt", EPOCH)
            )
            for document in documents
        }

    def _remember(self, user_id: str, version: _Version) -> None:
        self._seen[user_id] = version
        self._seen.move_to_end(user_id)
        while len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)


def _update(user_id: str, version: _Version, now: datetime) -> UpdateOne:
    """Matches nothing where a later token's profile is, and then fails on the key that it would insert."""
    profile: Document = {"name": version.profile.name, "avatar": version.profile.avatar}
    return UpdateOne(
        {"_id": user_id, "issuedAt": {"$not": {"$gt": version.issued_at}}},
        {"$set": {**profile, "issuedAt": version.issued_at, "updatedAt": now}},
        upsert=True,
    )
