"""What is known of users: the profile that their last token carried. Nobody needs one to be a member."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from storage.batcher import Batcher
from storage.membership import Clock
from storage.mongo import Mongo, UpdateOne

REMEMBERED_MAX = 20_000
"""Profiles written by this process that need no second write; about 5 MB."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How a user wants to be shown."""

    name: str | None
    avatar: str | None


class UserStore:
    """Profiles by user id. Writes of one loop tick are one bulk write, and what this process wrote last is skipped.

    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._users = mongo["users"]
        self._clock = clock
        self._written: OrderedDict[str, Profile] = OrderedDict()
        self._writes = Batcher(self._flush_writes)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._writes.close()

    async def upsert(self, user_id: str, profile: Profile) -> None:
        """Keep this as the user's profile."""
        if self._written.get(user_id) == profile:
            self._written.move_to_end(user_id)
            return
        await self._writes.submit((user_id, profile))

    async def profiles(self, user_ids: Sequence[str]) -> dict[str, Profile]:
        """The known ones of these users' profiles."""
        documents = await self._users.find({"_id": {"$in": list(user_ids)}}).to_list(None)
        return {document["_id"]: Profile(document["name"], document["avatar"]) for document in documents}

    async def _flush_writes(self, writes: list[tuple[str, Profile]]) -> list[None]:
        now = self._clock()
        latest = dict(writes)
        await self._users.bulk_write(
            [
                UpdateOne(
                    {"_id": user_id},
                    {"$set": {"name": profile.name, "avatar": profile.avatar, "updatedAt": now}},
                    upsert=True,
                )
                for user_id, profile in latest.items()
            ],
            ordered=False,
        )
        for user_id, profile in latest.items():
            self._written[user_id] = profile
            self._written.move_to_end(user_id)
        while len(self._written) > REMEMBERED_MAX:
            self._written.popitem(last=False)
        return [None] * len(writes)
