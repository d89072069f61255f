"""What a node publishes: one script call a loop tick, in order, and a memory of the rooms for which it failed."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from redis.exceptions import RedisError, ResponseError

from realtime.links import Command, Links, is_missing_script
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
PACE_SECONDS: Final = 0.005
"""From one script call to the next: a system call costs what twenty entries cost, and nobody feels the delay."""
MAX_MISSED: Final = 20_000
"""Rooms to be healed that a node keeps apart; beyond it, all are."""
EVERY_NODE: Final = "node:all"
_WRONG_SERVER: Final = frozenset({"READONLY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING"})

PUBLISH: Final = 1
LOG: Final = 2
_RENEW: Final = 4
_WHOLE: Final = 8

log = structlog.get_logger()


_Entry = tuple[str, bytes, int, asyncio.Future[int] | None]
"""Room, body, what publish.lua does with it, and who is told how many nodes got it, -1 while Redis is away."""


class Outbox:
    """Envelopes and frames on their way to Redis; nobody waits for them.

    `head` is put before a frame's fields to make an envelope of it; `heal` is the envelope that has a room's other
    nodes read what could not be published. `published` and `failed` count entries.
    """

    def __init__(
        self,
        shards: Shards,
        recovery_log: RecoveryLog,
        clock: RedisClock,
        *,
        head: bytes,
        heal: bytes,
        connected: Callable[[], bool],
        sharded: bool,
    ) -> None:
        self.published = 0
        self.failed = 0
        self.flushed = asyncio.Event()
        self.flushed.set()
        self._name = shards.name
        self._recovery_log = recovery_log
        self._renewals = Renewals()
        self._clock = clock
        publish = "SPUBLISH" if sharded else "PUBLISH"
        self._settings = (publish, head, LOG_ENTRIES, int((LOG_SECONDS + RENEW_SECONDS) * 1000))
        self._heal = heal
        self._connected = connected
        self._links: Links | None = None
        self._script = Path(__file__).with_name("publish.lua").read_bytes()
        self._digest = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()
        self._pending: list[_Entry] = []
        self._pending_bytes = 0
        self._missed: dict[str, None] = {}
        self._hole = False
        self._next = 0.0
        self._wake = asyncio.Event()

    def put(self, room: str, envelope: bytes, receivers: asyncio.Future[int] | None = None) -> None:
        """Publish an envelope in its turn. Never waits."""
        self._add((room, envelope, _WHOLE, receivers))

    def put_frame(self, room: str, fields: bytes, mode: int) -> None:
        """Publish a frame, log it, or both, in its turn. Never waits."""
        self._add((room, fields, mode, None))

    def _add(self, entry: _Entry) -> None:
        pending = self._pending
        if not pending:
            self.flushed.clear()
            self._wake.set()
        elif len(pending) >= MAX_PENDING or self._pending_bytes >= MAX_PENDING_BYTES:
            self._fail([entry])
            return
        pending.append(entry)
        self._pending_bytes += len(entry[1])

    async def use(self, links: Links) -> None:
        """Publish by these connections from now on, to a Redis that may have lost what it knew.

        Raises: RedisError, OSError.
        """
        for reply in await links.everywhere(("SCRIPT", "LOAD", self._script)):
            if isinstance(reply, Exception):
                raise reply
        self._renewals.forget()
        self._links = links

    def wake(self) -> None:
        """The bus is there (again): tell of what was missed."""
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
                await self._pace()
                batch = self._take()
                if not self._connected() or not await self._send(batch):
                    self._fail(batch)
            self.flushed.set()
            if self._missed or self._hole:
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    async def _pace(self) -> None:
        """Let entries gather when there are many of them: what comes after a pause leaves at once."""
        pause = self._next - self._clock.monotonic()
        if pause > 0 and len(self._pending) < BATCH_ENTRIES:
            await asyncio.sleep(pause)
        self._next = self._clock.monotonic() + PACE_SECONDS

    def _take(self) -> list[_Entry]:
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
        entries: list[_Entry] = [(room, self._heal, _WHOLE, None) for room in missed]
        for start in range(0, len(entries), BATCH_ENTRIES):
            batch = entries[start : start + BATCH_ENTRIES]
            if not await self._send(batch):
                for room, *_ in batch:
                    self._note_missed(room)

    async def _send(self, batch: list[_Entry]) -> bool:
        """Returns whether all of it was published."""
        links = self._links
        if links is None or links.lost.done():
            return False
        groups = links.split([room for room, *_ in batch])
        parts = [[batch[position] for position in positions] for positions in groups.values()]
        asked = self._clock.monotonic()
        commands = [(shard, self._command(part, asked)) for shard, part in zip(groups, parts, strict=True)]
        try:
            answers = await links.call(commands)
            if any(map(is_missing_script, answers)):
                await links.everywhere(("SCRIPT", "LOAD", self._script))
                answers = [
                    (await links.call([command]))[0] if is_missing_script(answer) else answer
                    for command, answer in zip(commands, answers, strict=True)
                ]
        except (RedisError, OSError):
            return False
        except Exception:
            log.exception("publishing failed")
            return False
        taken = [self._answered(links, part, answer, asked) for part, answer in zip(parts, answers, strict=True)]
        return all(taken)

    def _command(self, part: list[_Entry], now: float) -> Command:
        names: list[str] = []
        modes = bytearray()
        for room, _, mode, _ in part:
            names.append(self._name(room))
            modes.append(48 + mode + (_RENEW if mode & LOG and self._renewals.due(room, now) else 0))
        bodies = [body for _, body, _, _ in part]
        return ("EVALSHA", self._digest, len(part), *names, *self._settings, bytes(modes), *bodies)

    def _answered(self, links: Links, part: list[_Entry], answer: Any, asked: float) -> bool:
        if isinstance(answer, ResponseError):
            log.warning("Redis did not publish", reason=str(answer))
            if str(answer).partition(" ")[0] in _WRONG_SERVER:
                links.fail("no master any more")
            return False
        seconds, micros, unlogged, *counts = answer
        self._clock.sample(asked, int(seconds) * 1000 + int(micros) / 1000)
        self.published += len(part)
        if unlogged:
            self.failed += unlogged
            self._hole = True
        waiting = [receivers for _, _, mode, receivers in part if mode == _WHOLE]
        for receivers, count in zip(waiting, counts, strict=True):
            if receivers is not None and not receivers.done():
                receivers.set_result(count)
        return True
