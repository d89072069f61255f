"""What the bus asks of whoever knows where Redis is."""

from collections.abc import Sequence
from typing import Protocol

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection


class RedisSource(Protocol):
    """A Redis, or Valkey: one server, the master that sentinels name, or the masters of a cluster.

    `sharded` is whether it is a cluster, where a channel belongs to the master of its hash slot.
    """

    sharded: bool

    def client(self, *, timeout_seconds: float, retries: int = 0, text: bool = False) -> "Redis":
        """A client for commands, to be closed by the caller.

        `retries` is for commands that may be carried out twice: without any, the first one after a loss fails.
        """

    async def locate(self, keys: Sequence[str]) -> list[str]:
        """The server of each key, as of now. Raises: RedisError, OSError."""

    def connection(self, server: str, *, timeout_seconds: float) -> AbstractConnection:
        """A connection to one of these servers, not yet open, that speaks RESP 2."""

    async def close(self) -> None:
        """Close what it has open to find the servers."""
