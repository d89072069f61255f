"""The stock foreign emitters, which know Redis and nothing of the server."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import socketio

DRIVER = Path(__file__).with_name("emitter.mjs")
EMIT_SECONDS = 15.0


class ForeignEmitter(Protocol):
    """A process beside the server that emits by way of Redis."""

    async def emit(self, event: str, *args: Any, rooms: Sequence[str] = (), skip: Sequence[str] = ()) -> None:
        """Send an event to rooms, or to everybody; `skip` are session ids."""
        ...

    async def close(self) -> None:
        """Let go of Redis."""
        ...


class PythonEmitter:
    """python-socketio's write-only manager; `manager` is the thing itself."""

    def __init__(self, url: str) -> None:
        self.manager = socketio.AsyncRedisManager(url, write_only=True)

    async def emit(self, event: str, *args: Any, rooms: Sequence[str] = (), skip: Sequence[str] = ()) -> None:
        """Send an event to rooms, or to everybody; `skip` are session ids."""
        data = args if len(args) > 1 else args[0] if args else None
        await self.manager.emit(event, data, room=list(rooms) or None, skip_sid=list(skip) or None)

    async def close(self) -> None:
        """Let go of Redis."""
        if self.manager.redis is not None:
            await self.manager.redis.aclose()


class OfficialEmitter:
    """@socket.io/redis-emitter in a Node.js process of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: asyncio.subprocess.Process | None = None

    async def emit(self, event: str, *args: Any, rooms: Sequence[str] = (), skip: Sequence[str] = ()) -> None:
        """Send an event to rooms, or to everybody; `skip` are session ids or rooms."""
        await self.call("emit", event, *args, rooms=rooms, skip=skip)

    async def call(
        self, method: str, *args: Any, rooms: Sequence[str] = (), skip: Sequence[str] = (), **options: Any
    ) -> None:
        """Call any method of the emitter for these rooms; returns when Redis has taken it."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                "node", str(DRIVER), self._url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = {"method": method, "args": args, "rooms": list(rooms), "except": list(skip), **options}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(EMIT_SECONDS):
            assert await self._process.stdout.readline() == b"done\n"

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
