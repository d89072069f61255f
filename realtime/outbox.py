"""What a node publishes: one script call a loop tick, in order, and a memory of the rooms for which it failed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from realtime.recovery_log import LOG_ENTRIES, LOG_SECONDS, RENEW_SECONDS, RecoveryLog, Renewals
from realtime.redis_clock import RedisClock
from realtime.shards import Shards

RETRY_SECONDS: Final = 0.25
MAX_PENDING: Final = 20_000
"""Publishes that may wait for Redis; what does not fit is counted, and its rooms are healed when Redis is back."""
MAX_PENDING_BYTES: Final = 67_108_864
"""The same in bytes: the largest payloads must not become our memory either."""
BATCH_ENTRIES: Final = 1_000
BATCH_BYTES: Final = 4_194_304
"""What goes into one script call; Redis serves nobody else meanwhile, some milliseconds."""
MAX_MISSED: Final = 20_000
"""Rooms to be healed that a node keeps apart; beyond it, all are."""
EVERY_NODE: Final = "node:all"

PUBLISH: Final = 1
LOG: Final = 2
_RENEW: Final = 4
_WHOLE: Final = 8

log = structlog.get_logger()


class _Entry(NamedTuple):
    """`mode` is what publish.lua does with it; `receivers` is told how many nodes got it, -1 while Redis is away."""

    room: str
    body: bytes
    mode: int
    receivers: asyncio.Future[int] | None


class Outbox:
    """Envelopes and frames on their way to Redis; nobody waits for them.

    `head` is put before a frame's fields to make an envelope of it; `heal` is the envelope that has a room's other
    nodes read what could not be published. `published` and `failed` count entries.
    """

    def __init__(
        self,
        redis: "Redis",
        shards: Shards,
        recovery_log: RecoveryLog,
        clock: RedisClock,
        *,
        head: bytes,
        heal: bytes,
        connected: Callable[[], bool],
    ) -> None:
        self.published = 0
        self.failed = 0
        self.flushed = asyncio.Event()
        self.flushed.set()
        self._name = shards.name
        self._recovery_log = recovery_log
        self._renewals = Renewals()
        self._clock = clock
        self._settings = [head, LOG_ENTRIES, int((LOG_SECONDS + RENEW_SECONDS) * 1000)]
        self._heal = heal
        self._connected = connected
        self._publish: Any = redis.register_script(Path(__file__).with_name("publish.lua").read_text())
        self._pending: list[_Entry] = []
        self._pending_bytes = 0
        self._missed: dict[str, None] = {}
        self._hole = False
        self._wake = asyncio.Event()

    def put(self, room: str, envelope: bytes, receivers: asyncio.Future[int] | None = None) -> None:
        """Publish an envelope in its turn. Never waits."""
        self._add(_Entry(room, envelope, _WHOLE, receivers))

    def put_frame(self, room: str, fields: bytes, mode: int) -> None:
        """Publish a frame, log it, or both, in its turn. Never waits."""
        self._add(_Entry(room, fields, mode, None))

    def _add(self, entry: _Entry) -> None:
        if len(self._pending) >= MAX_PENDING or self._pending_bytes >= MAX_PENDING_BYTES:
            self._fail([entry])
            return
        self._pending.append(entry)
        self._pending_bytes += len(entry.body)
        if len(self._pending) == 1:
            self.flushed.clear()
            self._wake.set()

    def connected_again(self) -> None:
        """Redis is there (again), with or without what it knew: tell of what was missed."""
        self._renewals.forget()
        self._wake.set()

    def note_hole(self) -> None:
        """Redis may have lost what it had logged."""
        self._hole = True
        self._wake.set()

    async def run(self) -> None:
        """Publish for ever: one batch at a time, so that what is put in order arrives in order."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._connected():
                await self._tell_missed()
            while self._pending:
                batch = self._take()
                if not self._connected() or not await self._send(batch):
                    self._fail(batch)
            self.flushed.set()
            if self._missed or self._hole:
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    def _take(self) -> list[_Entry]:
        """The next batch: all that waits, as far as it fits."""
        if len(self._pending) <= BATCH_ENTRIES and self._pending_bytes <= BATCH_BYTES:
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            return batch
        size = count = 0
        while count < min(len(self._pending), BATCH_ENTRIES) and (not count or size < BATCH_BYTES):
            size += len(self._pending[count].body)
            count += 1
        batch, self._pending = self._pending[:count], self._pending[count:]
        self._pending_bytes -= size
        return batch

    def _fail(self, batch: list[_Entry]) -> None:
        self.failed += len(batch)
        for room, _, mode, receivers in batch:
            if not room.startswith("node:"):
                self._note_missed(room)
            self._hole = self._hole or (mode & LOG > 0)
            if receivers is not None and not receivers.done():
                receivers.set_result(-1)

    def _note_missed(self, room: str) -> None:
        if len(self._missed) >= MAX_MISSED:
            self._missed = {EVERY_NODE: None}
        self._missed[room] = None

    async def _tell_missed(self) -> None:
        """Let the nodes heal the rooms for which something could not be published, and nobody trust the logs."""
        if self._hole:
            try:
                await self._recovery_log.note_hole(self._clock.now_ms())
                self._hole = False
            except (RedisError, OSError):
                return
        missed, self._missed = self._missed, {}
        entries = [_Entry(room, self._heal, _WHOLE, None) for room in missed]
        for start in range(0, len(entries), BATCH_ENTRIES):
            batch = entries[start : start + BATCH_ENTRIES]
            if not await self._send(batch):
                for entry in batch:
                    self._note_missed(entry.room)

    async def _send(self, batch: list[_Entry]) -> bool:
        asked = self._clock.monotonic()
        names: list[str] = []
        modes = bytearray()
        for room, _, mode, _ in batch:
            names.append(self._name(room))
            modes.append(48 + mode + (_RENEW if mode & LOG and self._renewals.due(room, asked) else 0))
        try:
            answer = await self._publish(names, [*self._settings, bytes(modes), *[entry.body for entry in batch]])
        except (RedisError, OSError):
            return False
        except Exception:
            log.exception("publishing failed")
            return False
        seconds, micros, unlogged, *counts = answer
        self._clock.sample(asked, int(seconds) * 1000 + int(micros) / 1000)
        self.published += len(batch)
        if unlogged:
            self.failed += unlogged
            self._hole = True
        waiting = [entry.receivers for entry in batch if entry.mode == _WHOLE]
        for receivers, count in zip(waiting, counts, strict=True):
            if receivers is not None and not receivers.done():
                receivers.set_result(count)
        return True
