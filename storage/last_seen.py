"""When users were last seen: written late and together, at most once a minute each."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog

from storage.batcher import Batcher
from storage.mongo import BulkWriteError, Mongo, UpdateOne, is_outage

WRITE_SECONDS: Final = 1.0
"""Between two bulk writes."""
USER_SECONDS: Final = 60.0
"""Between two writes of one user."""
WRITE_USERS: Final = 1_000
PENDING_MAX: Final = 100_000
"""Users that wait to be written, about 20 MB; of more than that, the time is lost."""
READS_AT_ONCE: Final = 32
"""Callers that share a read; each may ask for 500 users."""

log = structlog.get_logger()


class LastSeenStore:
    """The field `lastSeen` of users, which only moves forward. `now` is a monotonic clock.

    Raises: the driver's errors when the store is away (reads), Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo, now: Callable[[], float]) -> None:
        self._users = mongo["users"]
        self._now = now
        self._pending: dict[str, datetime] = {}
        self._written: dict[str, float] = {}
        self._reads = Batcher(self._flush_reads, batch_max=READS_AT_ONCE)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is pending, one try, then take nothing more."""
        await self._reads.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._write(list(self._pending))
        except Exception as error:
            log.warning("times last seen not written", users=len(self._pending), reason=type(error).__name__)

    def note(self, moments: Mapping[str, datetime]) -> None:
        """Keep these times; they are stored later."""
        for user_id, moment in moments.items():
            earlier = self._pending.get(user_id)
            if earlier is None and len(self._pending) >= PENDING_MAX:
                continue
            self._pending[user_id] = moment if earlier is None else max(earlier, moment)
        self._wake.set()

    async def read(self, user_ids: Sequence[str]) -> dict[str, datetime]:
        """The known ones of these users' times, as far as this node knows."""
        if not user_ids:
            return {}
        stored = await self._reads.submit(user_ids)
        for user_id in self._pending.keys() & set(user_ids):
            noted = self._pending[user_id]
            stored[user_id] = max(noted, stored.get(user_id, noted))
        return stored

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(WRITE_SECONDS)
            earliest = self._now() - USER_SECONDS
            self._written = {user_id: at for user_id, at in self._written.items() if at > earliest}
            try:
                await self._write([user_id for user_id in self._pending if user_id not in self._written])
            except Exception as error:
                if not is_outage(error):
                    log.exception("times last seen not written")
            if self._pending:
                self._wake.set()

    async def _write(self, user_ids: Sequence[str]) -> None:
        for start in range(0, len(user_ids), WRITE_USERS):
            batch = {user_id: self._pending[user_id] for user_id in user_ids[start : start + WRITE_USERS]}
            updates = [
                UpdateOne({"_id": user_id}, {"$max": {"lastSeen": moment}}, upsert=True)
                for user_id, moment in batch.items()
            ]
            await self._bulk_write(updates)
            for user_id, moment in batch.items():
                self._written[user_id] = self._now()
                if self._pending.get(user_id) == moment:
                    del self._pending[user_id]

    async def _bulk_write(self, updates: list[UpdateOne]) -> None:
        try:
            await self._users.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            # A key that is taken: another node has just made this user's document, with a time as good as ours.
            if is_outage(error):
                raise

    async def _flush_reads(self, requests: list[Sequence[str]]) -> list[dict[str, datetime]]:
        wanted = list({user_id for user_ids in requests for user_id in user_ids})
        query = {"_id": {"$in": wanted}, "lastSeen": {"$exists": True}}
        found = {
            document["_id"]: document["lastSeen"]
            for document in await self._users.find(query, {"lastSeen": 1}).to_list(None)
        }
        return [{user_id: found[user_id] for user_id in user_ids if user_id in found} for user_ids in requests]
