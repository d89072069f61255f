"""What a node publishes: one pipeline a loop tick, in order, and a memory of the rooms for which it failed."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

RETRY_SECONDS: Final = 0.25
MAX_PENDING: Final = 20_000
"""Publishes that may wait for Redis; what does not fit is counted, and its rooms are healed when Redis is back."""
MAX_MISSED: Final = 20_000
"""Rooms to be healed that a node keeps apart; beyond it, all are."""
EVERY_NODE: Final = "node:all"

log = structlog.get_logger()

Publish = tuple[str, bytes, asyncio.Future[int] | None]
"""A room, an envelope, and who wants to know how many nodes got it (-1: none, Redis is away)."""


class Outbox:
    """Envelopes on their way to Redis; nobody waits for them.

    `heal` is the envelope that has a room's other nodes read what could not be published. `failed` counts failures.
    """

    def __init__(self, redis: "Redis", prefix: str, heal: bytes, connected: Callable[[], bool]) -> None:
        self.failed = 0
        self.flushed = asyncio.Event()
        self.flushed.set()
        self._redis = redis
        self._prefix = prefix
        self._heal = heal
        self._connected = connected
        self._pending: list[Publish] = []
        self._missed: dict[str, None] = {}
        self._wake = asyncio.Event()

    def put(self, room: str, body: bytes, receivers: asyncio.Future[int] | None = None) -> None:
        """Publish an envelope in its turn. Never waits."""
        if len(self._pending) >= MAX_PENDING:
            self._fail([(room, body, receivers)])
            return
        self._pending.append((room, body, receivers))
        self.flushed.clear()
        self._wake.set()

    def wake(self) -> None:
        """Redis is there (again): tell of what was missed."""
        self._wake.set()

    async def run(self) -> None:
        """Publish for ever: one pipeline at a time, so that what is put in order arrives in order."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._missed and self._connected():
                await self._tell_missed()
            while self._pending:
                batch, self._pending = self._pending, []
                if not self._connected() or not await self._send(batch):
                    self._fail(batch)
            self.flushed.set()
            if self._missed:
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    def _fail(self, batch: list[Publish]) -> None:
        self.failed += len(batch)
        for room, _, receivers in batch:
            if not room.startswith("node:"):
                self._note_missed(room)
            if receivers is not None and not receivers.done():
                receivers.set_result(-1)

    def _note_missed(self, room: str) -> None:
        if len(self._missed) >= MAX_MISSED:
            self._missed = {EVERY_NODE: None}
        self._missed[room] = None

    async def _tell_missed(self) -> None:
        """Let the nodes heal the rooms for which something could not be published."""
        missed, self._missed = self._missed, {}
        if not await self._send([(room, self._heal, None) for room in missed]):
            for room in missed:
                self._note_missed(room)

    async def _send(self, batch: list[Publish]) -> bool:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for room, body, _ in batch:
                    pipeline.publish(self._prefix + room, body)
                counts = await pipeline.execute()
        except (RedisError, OSError):
            return False
        except Exception:
            log.exception("publishing failed")
            return False
        for (_, _, receivers), count in zip(batch, counts, strict=True):
            if receivers is not None and not receivers.done():
                receivers.set_result(count)
        return True
