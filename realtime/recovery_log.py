"""The log of what was said in each room lately, for clients that come back: a bounded Redis stream a room.

It is written by the script that publishes, so its order is the order on the bus. An entry is a frame's fields. What
could not be written leaves a hole, of which nobody knows how long it is: it is noted as a moment, and what a log
holds of the time before it is not all there was.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack
from redis.asyncio import Redis

from realtime.envelope import Frame
from realtime.links import Links
from realtime.shards import Shards, shard_of

LOG_ENTRIES: Final = 512
"""What a room's log keeps at least; Redis cuts whole blocks of a hundred. At two messages a second, four minutes."""
LOG_SECONDS: Final = 180.0
"""How long a log outlives its last entry: a client may be away for two minutes, and its offset some seconds older."""
RENEW_SECONDS: Final = 30.0
"""A log's expiry is set that much later, and then left alone for as long."""
RENEWED_MAX: Final = 100_000
"""Rooms of which it is remembered when their log's expiry was set; beyond it all are forgotten, and set again."""
READ_ENTRIES: Final = 2_000
READ_BYTES: Final = 1_048_576
"""What one client's logs are read for: about twice what it may be sent, for some of it is not for its eyes."""
READ_ROOMS: Final = 500
"""Logs read by one command; Redis serves nobody else meanwhile."""


class LogEntry(NamedTuple):
    """What was said: `id` is when Redis got it, in ms, and a number within that."""

    id: tuple[int, int]
    frame: Frame


class Renewals:
    """Which logs live on for long enough as they are. `now` is in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def due(self, room: str, now: float) -> bool:
        """Whether the log's expiry is to be set with this entry; it then counts as set."""
        if self._due.get(room, 0.0) > now:
            return False
        if len(self._due) >= RENEWED_MAX:
            self._due.clear()
        self._due[room] = now + RENEW_SECONDS
        return True

    def forget(self) -> None:
        """Redis may have lost something: set all again."""
        self._due.clear()


class RecoveryLog:
    """The logs of rooms under a prefix."""

    def __init__(self, redis: "Redis", shards: Shards, *, sharded: bool) -> None:
        self._redis = redis
        self._sharded = sharded
        self._shards = shards
        # Beside the first shard's rooms, whose names have a colon there.
        self._hole = f"{shards.tags[0].removesuffix(':')}recovery:hole"
        self._run = f"{shards.tags[0].removesuffix(':')}recovery:run"
        self._has_met = False
        self._read: Any = redis.register_script(Path(__file__).with_name("read_log.lua").read_text())

    async def note_hole(self, links: Links, now_ms: int) -> None:
        """Something is missing, somewhere, from before now. Raises: RedisError or OSError."""
        await links.one("SET", self._hole, now_ms, "PX", int(LOG_SECONDS * 1000))

    async def met(self, links: Links, now_ms: int) -> None:
        """Redis is there (again), in some run of its server or servers.

        Another one than the last that any node has met may have lost what was logged. One that has met none at all is
        news only to a node that knows better: else there was nothing to lose, or nobody to come back for it.
        Raises: RedisError, OSError.
        """
        known, run = await links.one("GET", self._run), await links.runs()
        if known != run.encode():
            if known is not None or self._has_met:
                await self.note_hole(links, now_ms)
            await links.one("SET", self._run, run)
        self._has_met = True

    async def read(self, rooms: Sequence[str], since_ms: int) -> tuple[dict[str, list[LogEntry]], bool]:
        """What was said to these rooms since a moment, and whether that is all there was.

        It is not when a log is cut beyond the moment, has a hole, or there is more than 2,000 entries or 1 MiB.
        Raises: RedisError, OSError.
        """
        entries: dict[str, list[LogEntry]] = {}
        for part in self._parts(rooms):
            found, complete = await self._read_part(part, since_ms)
            entries.update(found)
            if not complete or sum(map(len, entries.values())) > READ_ENTRIES:
                return {}, False
        # After the logs: a hole that is noted while they are read counts.
        hole = await self._redis.get(self._hole)
        return entries, hole is None or int(hole) < since_ms

    def _parts(self, rooms: Sequence[str]) -> list[list[str]]:
        """Rooms that one command can name."""
        groups: dict[int, list[str]] = {}
        for room in rooms:
            groups.setdefault(shard_of(room) if self._sharded else 0, []).append(room)
        return [
            group[start : start + READ_ROOMS] for group in groups.values() for start in range(0, len(group), READ_ROOMS)
        ]

    async def _read_part(self, rooms: Sequence[str], since_ms: int) -> tuple[dict[str, list[LogEntry]], bool]:
        limits = [since_ms, LOG_ENTRIES, READ_ENTRIES, READ_BYTES]
        complete, *found = await self._read([self._shards.name(room) for room in rooms], limits)
        entries: dict[str, list[LogEntry]] = {}
        for number, entry_id, body in zip(found[::3], found[1::3], found[2::3], strict=True):
            moment, _, index = entry_id.partition(b"-")
            entry = LogEntry((int(moment), int(index)), Frame(*msgpack.unpackb(body)))
            entries.setdefault(rooms[number - 1], []).append(entry)
        return entries, bool(complete)
