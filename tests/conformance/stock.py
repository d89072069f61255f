"""The stock clients with all they can do: several namespaces, binary, several arguments, and acks both ways.

Both answer the server's `call` with its arguments in reverse.
"""

import asyncio
import base64
import contextlib
import itertools
import json
from pathlib import Path
from typing import Any, Protocol

import socketio

DRIVER = Path(__file__).with_name("stock.mjs")
LINE_MAX = 16 * 1024 * 1024
HAPPENING_SECONDS = 10.0


class Happenings:
    """What has happened to a client, in order: (what, namespace, arguments)."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, list[Any]]] = []
        self._news = asyncio.Event()

    def add(self, what: str, namespace: str, *args: Any) -> None:
        """Something has happened."""
        self.all.append((what, namespace, list(args)))
        self._news.set()

    async def next(self, what: str, namespace: str = "/") -> list[Any]:
        """The arguments of the next one of this kind, which is then forgotten with those of its kind before it."""
        async with asyncio.timeout(HAPPENING_SECONDS):
            while True:
                for position, (kind, where, args) in enumerate(self.all):
                    if (kind, where) == (what, namespace):
                        del self.all[position]
                        return args
                self._news.clear()
                await self._news.wait()


class StockClient(Protocol):
    """A stock client. It happens to be `connected [sid]`, `refused [message, data]`, `event [name, …]`,
    `disconnected [reason]`."""

    happenings: Happenings

    async def open(self, port: int, transports: list[str], namespaces: list[str], auth: Any = None) -> None:
        """Connect to these namespaces over one connection, without waiting for the outcome."""

    async def emit(self, event: str, *args: Any, namespace: str = "/") -> None:
        """Send an event."""

    async def call(self, event: str, *args: Any, namespace: str = "/") -> list[Any]:
        """Send an event and return the arguments of its ack."""

    async def leave(self, namespace: str = "/") -> None:
        """Disconnect from a namespace."""

    async def close(self) -> None:
        """Go away."""


class Python:
    """python-socketio's AsyncClient."""

    def __init__(self) -> None:
        self.happenings = Happenings()
        self._client = socketio.AsyncClient(reconnection=False)

    async def open(self, port: int, transports: list[str], namespaces: list[str], auth: Any = None) -> None:
        """Connect."""
        for namespace in namespaces:
            self._listen(namespace)
        with contextlib.suppress(socketio.exceptions.ConnectionError):
            await self._client.connect(
                f"http://127.0.0.1:{port}", auth=auth, transports=transports, namespaces=namespaces, wait=False
            )

    def _listen(self, namespace: str) -> None:
        async def event(name: str, *args: Any) -> Any:
            self.happenings.add("event", namespace, name, *args)
            return tuple(reversed(args))

        async def connected() -> None:
            self.happenings.add("connected", namespace, self._client.get_sid(namespace))

        async def refused(error: Any) -> None:
            self.happenings.add("refused", namespace, error["message"], error.get("data"))

        async def disconnected(reason: str) -> None:
            self.happenings.add("disconnected", namespace, reason)

        self._client.on("*", event, namespace=namespace)
        self._client.on("connect", connected, namespace=namespace)
        self._client.on("connect_error", refused, namespace=namespace)
        self._client.on("disconnect", disconnected, namespace=namespace)

    async def emit(self, event: str, *args: Any, namespace: str = "/") -> None:
        """Send an event."""
        await self._client.emit(event, args, namespace=namespace)

    async def call(self, event: str, *args: Any, namespace: str = "/") -> list[Any]:
        """Send an event and return the arguments of its ack."""
        answer = await self._client.call(event, args, namespace=namespace, timeout=HAPPENING_SECONDS)
        return list(answer) if isinstance(answer, tuple) else [] if answer is None else [answer]

    async def leave(self, namespace: str = "/") -> None:
        """Disconnect from a namespace, as the JavaScript client can."""
        await self._client._send_packet(self._client.packet_class(1, namespace=namespace))

    async def close(self) -> None:
        """Go away."""
        await self._client.disconnect()


class JavaScript:
    """socket.io-client in a Node.js process."""

    def __init__(self) -> None:
        self.happenings = Happenings()
        self._numbers = itertools.count(1)
        self._acks: dict[int, asyncio.Future[list[Any]]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self, port: int, transports: list[str], namespaces: list[str], auth: Any = None) -> None:
        """Start the process and connect."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            "node", str(DRIVER), stdin=pipe, stdout=pipe, limit=LINE_MAX
        )
        self._reader = asyncio.create_task(self._read())
        self._do("open", f"http://127.0.0.1:{port}", transports)
        for namespace in namespaces:
            self._do("join", namespace, auth)

    def _do(self, action: str, *args: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([action, *_pack(list(args))]).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            what, namespace, args = _unpack(json.loads(line))
            if what == "ack":
                self._acks.pop(args[0]).set_result(args[1:])
            else:
                self.happenings.add(what, namespace, *args)

    async def emit(self, event: str, *args: Any, namespace: str = "/") -> None:
        """Send an event."""
        self._do("emit", namespace, event, list(args))

    async def call(self, event: str, *args: Any, namespace: str = "/") -> list[Any]:
        """Send an event and return the arguments of its ack."""
        number = next(self._numbers)
        answer = self._acks[number] = asyncio.get_running_loop().create_future()
        self._do("call", namespace, event, list(args), number)
        return await asyncio.wait_for(answer, HAPPENING_SECONDS)

    async def leave(self, namespace: str = "/") -> None:
        """Disconnect from a namespace."""
        self._do("leave", namespace)

    async def close(self) -> None:
        """End the process."""
        if self._process is not None and self._reader is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await asyncio.wait_for(self._process.wait(), HAPPENING_SECONDS)
            await self._reader


STOCK_CLIENTS: dict[str, type[StockClient]] = {"python": Python, "javascript": JavaScript}


def _pack(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [_pack(item) for item in value]
    return {key: _pack(item) for key, item in value.items()} if isinstance(value, dict) else value


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    return {key: _unpack(item) for key, item in value.items()}
