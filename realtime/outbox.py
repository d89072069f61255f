"""What a node publishes: one script call a loop tick, in order, and a memory of the rooms for which it failed."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from realtime.publisher import LOG, WHOLE, Entry, Publisher
from realtime.recovery_log import RecoveryLog
from realtime.redis_clock import RedisClock

RETRY_SECONDS: Final = 0.25
MAX_PENDING: Final = 20_000
"""Publishes that may wait for Redis; what does not fit is counted, and its rooms are healed when Redis is back."""
MAX_PENDING_BYTES: Final = 67_108_864
"""The same in bytes: the largest payloads must not become our memory either."""
BATCH_ENTRIES: Final = 1_000
BATCH_BYTES: Final = 4_194_304
"""What goes into one script call; Redis serves nobody else meanwhile, some milliseconds."""
PACE_SECONDS: Final = 0.005
"""From one script call to the next: a system call costs what twenty entries cost, and nobody feels the delay."""
LOG_SECONDS: Final = 0.05
"""How long what goes into the logs alone may wait, when no other node is there to hear it. Of what a node that dies has
not written, messages are read from MongoDB by whoever comes back."""
MAX_MISSED: Final = 20_000
"""Rooms to be healed that a node keeps apart; beyond it, all are."""
EVERY_NODE: Final = "node:all"


class Outbox:
    """Envelopes and frames on their way to Redis; nobody waits for them.

    `heal` is the envelope that has a room's other nodes read what could not be published.
    """

    def __init__(
        self,
        publisher: Publisher,
        recovery_log: RecoveryLog,
        clock: RedisClock,
        *,
        heal: bytes,
        connected: Callable[[], bool],
    ) -> None:
        self.flushed = asyncio.Event()
        self.flushed.set()
        self._publisher = publisher
        self._recovery_log = recovery_log
        self._clock = clock
        self._heal = heal
        self._connected = connected
        self._failed = 0
        self._unlogged = 0
        self._pending: list[Entry] = []
        self._pending_bytes = 0
        self._missed: dict[str, None] = {}
        self._hole = False
        self._next = 0.0
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()

    @property
    def failed(self) -> int:
        """Entries that Redis did not take, or not into the log, since the start."""
        return self._failed + self._publisher.unlogged

    def put(self, room: str, envelope: bytes, receivers: asyncio.Future[int] | None = None) -> None:
        """Publish an envelope in its turn. Never waits."""
        self._add((room, envelope, WHOLE, receivers))

    def put_frame(self, room: str, fields: bytes, mode: int) -> None:
        """Publish a frame, log it, or both, in its turn. Never waits."""
        self._add((room, fields, mode, None))

    def _add(self, entry: Entry) -> None:
        pending = self._pending
        if not pending:
            self.flushed.clear()
            self._wake.set()
        elif len(pending) >= MAX_PENDING or self._pending_bytes >= MAX_PENDING_BYTES:
            self._fail([entry])
            return
        if entry[2] != LOG or len(pending) >= BATCH_ENTRIES:
            self._urgent.set()
        pending.append(entry)
        self._pending_bytes += len(entry[1])

    def wake(self) -> None:
        """The bus is there (again): tell of what was missed."""
        self._wake.set()

    async def run(self) -> None:
        """Publish for ever: one batch at a time, so that what is put in order arrives in order."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._connected():
                await self._tell_missed()
            while self._pending:
                await self._pace()
                batch = self._take()
                if not self._connected() or not await self._publisher.send(batch):
                    self._fail(batch)
            self.flushed.set()
            if self._missed or self._hole or self._publisher.unlogged != self._unlogged:
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    async def _pace(self) -> None:
        """Let entries gather: those for the logs alone always, others when there are many of them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOG_SECONDS):
                await self._urgent.wait()
        self._urgent.clear()
        pause = self._next - self._clock.monotonic()
        if pause > 0 and len(self._pending) < BATCH_ENTRIES:
            await asyncio.sleep(pause)
        self._next = self._clock.monotonic() + PACE_SECONDS

    def _take(self) -> list[Entry]:
        """The next batch: all that waits, as far as it fits."""
        if len(self._pending) <= BATCH_ENTRIES and self._pending_bytes <= BATCH_BYTES:
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            return batch
        size = count = 0
        while count < min(len(self._pending), BATCH_ENTRIES) and (not count or size < BATCH_BYTES):
            size += len(self._pending[count][1])
            count += 1
        batch, self._pending = self._pending[:count], self._pending[count:]
        self._pending_bytes -= size
        self._urgent.set()
        return batch

    def _fail(self, batch: list[Entry]) -> None:
        self._failed += len(batch)
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
        if self._publisher.unlogged != self._unlogged:
            self._unlogged, self._hole = self._publisher.unlogged, True
        links = self._publisher.links
        if self._hole and links is not None:
            self._hole = False
            try:
                await self._recovery_log.note_hole(links, self._clock.now_ms())
            except (RedisError, OSError):
                self._hole = True
                return
        missed, self._missed = self._missed, {}
        entries: list[Entry] = [(room, self._heal, WHOLE, None) for room in missed]
        for start in range(0, len(entries), BATCH_ENTRIES):
            batch = entries[start : start + BATCH_ENTRIES]
            if not await self._publisher.send(batch):
                for room, *_ in batch:
                    self._note_missed(room)
