"""The stock JavaScript client, in a Node.js process of its own, driven by lines of JSON."""

import asyncio
import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

from tests.clients.user import Received, Refused, eventually

DRIVER = Path(__file__).with_name("driver.mjs")
LINE_MAX = 16 * 1024 * 1024


class JavaScriptClient:
    """socket.io-client. Options: `transports`, `auth` (more fields), `reconnection` (off)."""

    def __init__(
        self,
        url: str,
        token: Any,
        user_id: str,
        *,
        transports: tuple[str, ...] = ("websocket",),
        auth: dict[str, Any] | None = None,
        reconnection: bool = False,
    ) -> None:
        self.user_id = user_id
        self.received = Received()
        self.connected = False
        self.recovered = False
        self.id: str | None = None
        self._options: dict[str, Any] = {
            "url": url,
            "auth": {"token": token, **(auth or {})} if token is not None else auth,
            "transports": list(transports),
            "reconnection": reconnection,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._opened: asyncio.Future[Any] | None = None

    async def connect(self) -> Any:
        """Connect and return `session:ready`. Raises: Refused."""
        self._process = await asyncio.create_subprocess_exec(
            "node", str(DRIVER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_MAX
        )
        self._reader = asyncio.create_task(self._read())
        self._opened = asyncio.get_running_loop().create_future()
        self._write({"do": "connect", **self._options})
        async with asyncio.timeout(15):
            refusal = await self._opened
        if refusal is not None:
            await self.close()
            raise Refused(refusal["message"], refusal.get("data"))
        return await self.received.next("session:ready")

    async def call(self, event: str, payload: Any = None, seconds: float = 10.0) -> Any:
        """Send an event and return its ack."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        args = [] if payload is None else [payload]
        self._write({"do": "call", "number": number, "event": event, "args": args})
        try:
            async with asyncio.timeout(seconds):
                return await answer
        finally:
            del self._answers[number]

    async def push(self, event: str, *payload: Any) -> None:
        """Send an event without asking for an ack."""
        self._write({"do": "emit", "event": event, "args": list(payload)})

    async def drop(self) -> None:
        """Lose the transport, as the client sees it; the socket keeps what it needs to come back."""
        self._write({"do": "drop"})
        await eventually(lambda: not self.connected)

    async def back(self, url: str | None = None, token: str | None = None) -> dict[str, Any]:
        """Connect the same socket again, to another server or with another token if need be. Raises: Refused."""
        auth = self._options["auth"]
        if token is not None:
            auth = {**auth, "token": token}
        self._opened = asyncio.get_running_loop().create_future()
        self._write({"do": "back", "url": url or self._options["url"], "auth": auth})
        async with asyncio.timeout(15):
            refusal = await self._opened
        if refusal is not None:
            raise Refused(refusal["message"], refusal.get("data"))
        ready: dict[str, Any] = await self.received.next("session:ready")
        return ready

    def _write(self, command: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if told["what"] == "event":
                self.received.add(told["event"], told["args"][0] if told["args"] else None)
            elif told["what"] == "ack":
                answer = self._answers.get(told["number"])
                if answer is not None and not answer.done():
                    answer.set_result(told["args"][0] if told["args"] else None)
            else:
                self.connected = told["what"] == "connected"
                self.recovered, self.id = told.get("recovered", False), told.get("id")
                if told["what"] != "disconnected" and self._opened is not None and not self._opened.done():
                    self._opened.set_result(told if told["what"] == "refused" else None)

    async def close(self) -> None:
        """Disconnect and end the process."""
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._reader is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
