"""Who does not want to hear from whom: one document a block, whose `_id` is "blocker\\nblocked" and its only index."""

from collections.abc import Iterable, Sequence

from storage.batcher import Batcher
from storage.membership import Clock
from storage.mongo import Mongo
from storage.room import KEY_SEPARATOR

KEYS_PER_FIND = 10_000
"""Keeps a query far below the 16 MB of a document."""
_AFTER_SEPARATOR = chr(ord(KEY_SEPARATOR) + 1)


class BlockStore:
    """All blocks. Reads of one loop tick are one query, and see everything acknowledged before them.

    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._blocks = mongo["blocks"]
        self._clock = clock
        self._reads = Batcher(self._flush_reads)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._reads.close()

    async def block(self, blocker: str, blocked: str) -> None:
        """Shut someone out; again is no error."""
        document = {"blockerId": blocker, "blockedId": blocked, "createdAt": self._clock()}
        await self._blocks.update_one({"_id": _key(blocker, blocked)}, {"$setOnInsert": document}, upsert=True)

    async def unblock(self, blocker: str, blocked: str) -> None:
        """Let them in again; someone who is not blocked is no error."""
        await self._blocks.delete_one({"_id": _key(blocker, blocked)})

    async def list(self, blocker: str, after: str, limit: int) -> Sequence[str]:
        """Whom this user has blocked, by user id, those after this one."""
        last = f"{blocker}{_AFTER_SEPARATOR}"
        cursor = self._blocks.find({"_id": {"$gt": _key(blocker, after), "$lt": last}}, {"blockedId": 1})
        return [document["blockedId"] for document in await cursor.sort("_id", 1).limit(limit).to_list(limit)]

    async def blockers_among(self, user_ids: Iterable[str], blocked: str) -> frozenset[str]:
        """Those of these users who have blocked this one."""
        keys = {_key(user_id, blocked): user_id for user_id in user_ids}
        return frozenset(keys[key] for key in await self._reads.submit([*keys]))

    async def blockers_between(self, one: str, other: str) -> frozenset[str]:
        """Those of the two who have blocked the other."""
        keys = {_key(one, other): one, _key(other, one): other}
        return frozenset(keys[key] for key in await self._reads.submit([*keys]))

    async def parted_from(self, user_id: str, others: Iterable[str]) -> frozenset[str]:
        """Those of the others who have blocked this user, or whom this user has blocked."""
        keys = {_key(other, user_id): other for other in others}
        keys |= {_key(user_id, other): other for other in keys.values()}
        return frozenset(keys[key] for key in await self._reads.submit([*keys]))

    async def is_blocked_either(self, one: str, other: str) -> bool:
        """Whether one of the two has blocked the other."""
        return bool(await self.blockers_between(one, other))

    async def _flush_reads(self, requests: Sequence[Sequence[str]]) -> Sequence[frozenset[str]]:
        wanted = [*{key for keys in requests for key in keys}]
        found: set[str] = set()
        for start in range(0, len(wanted), KEYS_PER_FIND):
            cursor = self._blocks.find({"_id": {"$in": wanted[start : start + KEYS_PER_FIND]}}, {"_id": 1})
            found.update(document["_id"] for document in await cursor.to_list(None))
        return [frozenset(found.intersection(keys)) for keys in requests]


def _key(blocker: str, blocked: str) -> str:
    return f"{blocker}{KEY_SEPARATOR}{blocked}"
