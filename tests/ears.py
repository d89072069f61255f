"""Ends of the bus for tests, and all that they have told."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from realtime.cluster import Cluster
from realtime.listener import SUBSCRIBE_SECONDS
from realtime.redis_source import RedisSource
from server.redis_source import redis_source
from tests.senders import until


class Ear:
    """A node's end of the bus, and all that it has told."""

    def __init__(self, url: str, prefix: str, name: str) -> None:
        self.source: RedisSource = redis_source(url)
        self.cluster = Cluster(self.source, prefix, name)
        self.frames: list[tuple[str, int | None, bytes]] = []
        self.changes: list[list[Any]] = []
        self.gaps: list[str] = []
        self.cluster.on_frame = lambda room, seq, packet, skip, unless: self.frames.append((room, seq, packet.payload))
        self.cluster.on_request = self.changes.append
        self.cluster.on_gap = self.gaps.extend

    async def connected(self) -> "Ear":
        """Wait until it is."""
        await until(lambda: self.cluster.connected, "the bus is there")
        return self

    async def hear(self, *rooms: str) -> None:
        """Listen to rooms, and know that it does."""
        for room in rooms:
            self.cluster.join(room)
        # Not `joined`, for a node that knows of no other one does not wait.
        await self.cluster._listener.rooms.stand(rooms, SUBSCRIBE_SECONDS)

    async def close(self) -> None:
        """Stop."""
        await self.cluster.stop()
        await self.source.close()


MakeEar = Callable[..., Awaitable[Ear]]


@contextlib.asynccontextmanager
async def ears(default_url: str, prefix: str) -> AsyncIterator[MakeEar]:
    """Nodes of one cluster: `await make("name", url)`."""
    made: list[Ear] = []

    async def make(name: str, url: str = default_url, *, wait: bool = True) -> Ear:
        made.append(Ear(url, prefix, name))
        await made[-1].cluster.start()
        return await made[-1].connected() if wait else made[-1]

    try:
        yield make
    finally:
        for each in made:
            await each.close()
