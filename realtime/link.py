"""One connection to a Redis server, without what the driver does per command and per message.

The driver opens it (TLS, passwords, sentinels); from then on whole chunks are written and read.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

READ_BYTES: Final = 65_536
"""Read at a time; some hundreds of messages, which are then taken without a pause."""


class Link:
    """Commands leave in the order given, and replies come in that order.

    `unheard` is for whoever watches over it: `read` sets it to 0.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self.unheard = 0
        self._connection = connection
        self._replies = hiredis.Reader(replyError=ResponseError)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> None:
        """Connect. Raises: RedisError, OSError."""
        await self._connection.connect()  # type: ignore[no-untyped-call]
        reader, writer = self._connection._reader, self._connection._writer
        if reader is None or writer is None:
            raise ConnectionError("the connection has gone")
        self._reader, self._writer = reader, writer

    def send(self, commands: Iterable[tuple[Any, ...]]) -> None:
        """Write commands, in one piece."""
        self._writer.write(b"".join([hiredis.pack_command(command) for command in commands]))

    async def read(self) -> list[Any]:
        """The replies that come next, at least one; an error reply is a ResponseError among them.

        Raises: ConnectionError when the other end has closed it, RedisError for what is no Redis.
        """
        found: list[Any] = []
        while not found:
            chunk = await self._reader.read(READ_BYTES)
            if not chunk:
                raise ConnectionError("closed by Redis")
            self.unheard = 0
            self._replies.feed(chunk)
            try:
                while (reply := self._replies.gets()) is not False:
                    found.append(reply)
            except hiredis.ProtocolError as error:
                raise RedisError("not the protocol of Redis") from error
        return found

    async def call(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """The replies to commands. Not to be called again before it has returned, nor after it was cancelled."""
        self.send(commands)
        found = await self.read()
        while len(found) < len(commands):
            found += await self.read()
        return found

    async def close(self) -> None:
        """Close it at once."""
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)
