"""The Engine.IO endpoint: handshakes, polls, posts and upgrades, each handed to its Socket.

Source: Engine.IO protocol 4. Refusals carry the status and JSON body of the reference server.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import engineio
import orjson
from aiohttp import web

from realtime.frames import Packet
from realtime.packets import MalformedPacket
from realtime.socket import Receiver, Socket

MAX_PACKETS_PER_POST: Final = 1_000
POST_SECONDS: Final = 30.0
"""How long a client may take to send the body of a POST."""
LINGER_SECONDS: Final = 1.0
"""How long a closed polling session is kept, so that its next poll can fetch the goodbye."""

_REFUSALS: Final = {
    "transport": (0, "Transport unknown"),
    "session": (1, "Session ID unknown"),
    "method": (2, "Bad handshake method"),
    "request": (3, "Bad request"),
    "version": (5, "Unsupported protocol version"),
}


def _refuse(why: str) -> web.Response:
    code, message = _REFUSALS[why]
    return web.Response(
        status=400, body=orjson.dumps({"code": code, "message": message}), content_type="application/json"
    )


class Engine(engineio.AsyncServer):
    """python-engineio's server with connections of our own behind it.

    `origin_allowed(origin, request)` decides over the Origin of every request that has one.
    """

    def __init__(
        self,
        *,
        ping_interval_ms: int,
        ping_timeout_ms: int,
        max_payload_bytes: int,
        origin_allowed: Callable[[str, web.Request], bool],
        **options: Any,
    ) -> None:
        super().__init__(monitor_clients=False, async_mode="aiohttp", **options)
        self.ping_interval_ms = ping_interval_ms
        self.ping_timeout_ms = ping_timeout_ms
        self.max_payload_bytes = max_payload_bytes
        self.origin_allowed = origin_allowed
        self.receiver: Receiver

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """Answer one HTTP request on the Socket.IO path."""
        origin = request.headers.get("Origin")
        if origin is not None and not self.origin_allowed(origin, request):
            return web.json_response({"code": 4, "message": "Forbidden"}, status=403)
        response = await self._route(request)
        if origin is not None and not response.prepared:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
        return response

    async def _route(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return _preflight(request)
        transport = request.query.get("transport")
        if transport not in ("polling", "websocket"):
            return _refuse("transport")
        if request.query.get("EIO") != "4":
            return _refuse("version")
        sid = request.query.get("sid")
        if sid is None:
            return await self._open(request, transport)
        socket = self.sockets.get(sid)
        if socket is None:
            return _refuse("session")
        if transport == "websocket":
            return await self._upgrade(socket, request)
        if socket.transport_name != "polling":
            return _refuse("request")
        if request.method == "GET":
            return await self._poll(socket)
        return await self._post(socket, request)

    async def _open(self, request: web.Request, transport: str) -> web.StreamResponse:
        """A new session; on a websocket this is its whole life."""
        if request.method != "GET":
            return _refuse("method")
        if transport == "websocket" and not _is_websocket(request):
            return _refuse("request")
        socket = Socket(self.generate_id(), self.receiver, self.ping_interval_ms / 1000, self.ping_timeout_ms / 1000)
        self.sockets[socket.sid] = socket
        socket.send(self._open_packet(socket.sid, upgrades=["websocket"] if transport == "polling" else []))
        await self._trigger_event("connect", socket.sid, {"aiohttp.request": request}, run_async=False)
        if transport == "websocket":
            return await socket.serve_websocket(request, self.max_payload_bytes)
        socket.opened_for_polling()
        return await self._poll(socket)

    def _open_packet(self, sid: str, upgrades: list[str]) -> Packet:
        return Packet(
            b"0"
            + orjson.dumps(
                {
                    "sid": sid,
                    "upgrades": upgrades,
                    "pingInterval": self.ping_interval_ms,
                    "pingTimeout": self.ping_timeout_ms,
                    "maxPayload": self.max_payload_bytes,
                }
            )
        )

    async def _upgrade(self, socket: Socket, request: web.Request) -> web.StreamResponse:
        if socket.transport_name != "polling" or not _is_websocket(request):
            return _refuse("request")
        return await socket.serve_websocket(request, self.max_payload_bytes)

    async def _poll(self, socket: Socket) -> web.StreamResponse:
        payload = await socket.poll()
        if payload is None:
            return _refuse("request")
        return web.Response(body=payload, content_type="text/plain", charset="utf-8")

    async def _post(self, socket: Socket, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return _refuse("method")
        if "Content-Encoding" in request.headers:
            # No client compresses what it posts, and a small body could unfold into a large one.
            self.receiver.malformed(socket)
            return _refuse("request")
        body = bytearray()
        try:
            async with asyncio.timeout(POST_SECONDS):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self.max_payload_bytes:
                        self.receiver.malformed(socket)
                        return web.Response(status=413)
        except TimeoutError:
            return web.Response(status=408)
        try:
            await socket.post(bytes(body), MAX_PACKETS_PER_POST)
        except MalformedPacket:
            self.receiver.malformed(socket)
            return _refuse("request")
        return web.Response(text="ok")

    def forget(self, socket: Socket) -> None:
        """Drop a closed session; a polling one lingers for its last poll."""
        if socket.transport_name == "polling":
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.sockets.pop, socket.sid, None)
        else:
            self.sockets.pop(socket.sid, None)

    async def send(self, sid: str, data: Any) -> None:
        """Send one Engine.IO message: text, or bytes as a binary one."""
        socket = self.sockets.get(sid)
        if socket is not None:
            binary = isinstance(data, bytes | bytearray)
            socket.send(Packet(bytes(data), binary=True) if binary else Packet(b"4" + data.encode()))

    async def send_packet(self, sid: str, pkt: Any) -> None:
        """Send one of python-engineio's packets."""
        encoded = pkt.encode()
        socket = self.sockets.get(sid)
        if socket is not None:
            binary = isinstance(encoded, bytes)
            socket.send(Packet(encoded, binary=True) if binary else Packet(encoded.encode()))

    async def disconnect(self, sid: str | None = None) -> None:
        """End one session, or all."""
        for socket in [self.sockets[sid]] if sid in self.sockets else list(self.sockets.values()) if not sid else []:
            socket.finish("server disconnect")


def _is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _preflight(request: web.Request) -> web.Response:
    headers = {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Max-Age": "600"}
    if asked := request.headers.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = asked
    return web.Response(status=204, headers=headers)
