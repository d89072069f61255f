"""The ways to a Socket.IO server: single requests, long-polling sessions and websockets, all closed in the end."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from tests.conformance.connection import ANSWER_SECONDS, Connection, Response
from tests.conformance.websocket import WebSocket

PATH: Final = "/socket.io/"
POLL_SECONDS: Final = 0.05
SEPARATOR: Final = "\x1e"
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to KEY, from RFC 6455 section 1.3."""
UPGRADE: Final = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def target(transport: str, sid: str | None = None) -> str:
    """The path and query of a request."""
    return f"{PATH}?EIO=4&transport={transport}" + (f"&sid={sid}" if sid is not None else "")


class Wire:
    """Opens connections to the server on this port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connections: list[Connection] = []
        self._other: Connection | None = None

    async def connection(self) -> Connection:
        """A TCP connection on which nothing has been said."""
        connection = await Connection.open(self.port)
        self._connections.append(connection)
        return connection

    async def request(
        self, method: str, where: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """One request on a connection of its own."""
        return await (await self.connection()).request(method, where, headers, body)

    async def upgrade(self, sid: str | None = None, headers: Mapping[str, str] | None = None) -> WebSocket:
        """A websocket from which nothing has been read; with `sid` one that wants to take over from polling."""
        connection = await self.connection()
        response = await connection.request("GET", target("websocket", sid), {**UPGRADE, **(headers or {})})
        assert response.status == 101, response
        return WebSocket(connection)

    async def websocket(self, token: str | None = None) -> WebSocket:
        """A websocket past OPEN, with a token also past CONNECT."""
        websocket = await self.upgrade()
        await websocket.opened()
        if token is not None:
            await websocket.connect(token)
        return websocket

    async def polling(self, token: str | None = None) -> "Polling":
        """A long-polling session past OPEN, with a token also past CONNECT."""
        (packet,) = (await self.request("GET", target("polling"))).text.split(SEPARATOR)
        polling = Polling(self, json.loads(packet[1:]))
        if token is not None:
            await polling.connect(token)
        return polling

    async def knows(self, sid: str) -> bool:
        """Whether the server has a session of this id; asking leaves it as it is."""
        response = await self.request("GET", target("websocket", sid))
        assert response.status == 400, response
        return bool(response.json["code"] != 1)

    async def forgets(self, sid: str) -> None:
        """Wait until the server has no session of this id."""
        for _ in range(round(ANSWER_SECONDS / POLL_SECONDS)):
            if not await self.knows(sid):
                return
            await asyncio.sleep(POLL_SECONDS)
        raise AssertionError("the session is still there")

    async def begin(
        self, method: str, where: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Connection:
        """The connection of a request that the server has read, with as much of its body as is given here."""
        connection = await self.connection()
        connection.write(connection.request_bytes(method, where, headers) + body)
        await self.delivered()
        return connection

    async def waiting_poll(self, polling: "Polling") -> Connection:
        """The connection of a GET that the server has read."""
        return await self.begin("GET", polling.target)

    async def probe(self, polling: "Polling") -> WebSocket:
        """A websocket that wants to take over from polling, and whose probe has been answered."""
        websocket = await self.upgrade(polling.sid)
        await websocket.send("2probe")
        assert await websocket.text() == "3probe"
        return websocket

    async def delivered(self) -> None:
        """Wait until the server has read what was written before: it answers a request that came in after it."""
        if self._other is None:
            self._other = await self.connection()
        assert (await self._other.request("GET", "/no-such-path")).status == 404

    async def write_in_pieces(self, connection: Connection, *pieces: bytes) -> None:
        """Write these pieces so that the server reads each by itself."""
        for piece in pieces:
            connection.write(piece)
            await self.delivered()

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            await connection.close()


class Polling:
    """A long-polling session, each of its requests on a connection of its own."""

    def __init__(self, wire: Wire, told: dict[str, Any]) -> None:
        self.told = told
        self.sid: str = told["sid"]
        self.target = target("polling", self.sid)
        self._wire = wire
        self._ack_number = 1_000_000

    async def poll(self) -> Response:
        """One GET."""
        return await self._wire.request("GET", self.target)

    async def get(self) -> list[str]:
        """The packets of one poll."""
        response = await self.poll()
        assert response.status == 200, response
        return response.text.split(SEPARATOR)

    async def post(self, *packets: str) -> Response:
        """One POST of these packets."""
        headers = {"Content-Type": "text/plain;charset=UTF-8"}
        return await self._wire.request("POST", self.target, headers, SEPARATOR.join(packets).encode())

    async def send(self, *packets: str) -> None:
        """One POST that must be taken."""
        response = await self.post(*packets)
        assert (response.status, response.body) == (200, b"ok"), response

    async def until(self, prefix: str) -> list[str]:
        """Poll until a packet begins so; returns all packets up to it."""
        packets: list[str] = []
        while not any(packet.startswith(prefix) for packet in packets):
            packets += await self.get()
        return packets

    async def connect(self, token: str) -> None:
        """CONNECT to the main namespace."""
        await self.send("40" + json.dumps({"token": token}))
        await self.until('42["session:ready",')

    async def is_served(self) -> bool:
        """Whether an event posted now is answered."""
        self._ack_number += 1
        await self.send(f'42{self._ack_number}["room:list"]')
        packets = await self.until(f"43{self._ack_number}[")
        return '"success":true' in packets[-1]

    async def is_gone(self) -> bool:
        """Whether the server no longer knows the session."""
        return (await self.post("3")).status == 400
