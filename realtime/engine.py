"""The Engine.IO endpoint: handshakes, polls, posts and upgrades, each handed to its Socket.

Source: Engine.IO protocol 4. Refusals carry the status and JSON body of the reference server.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import engineio
import orjson
from aiohttp import web

from realtime import refusals
from realtime.frames import Packet
from realtime.handshake import Handshake, from_request, switching_protocols
from realtime.limits import Limits
from realtime.long_polling import LongPolling
from realtime.packets import MalformedPacket, PastLimit
from realtime.rate import Rate
from realtime.refusals import Refusal
from realtime.socket import Socket
from realtime.sockets import Receiver, Sockets
from realtime.timeouts import Timeout
from realtime.upgrade import Upgrade
from realtime.websocket import WebSocket

POST_SECONDS: Final = 30.0
"""How long a client may take to send the body of a POST."""
LINGER_SECONDS: Final = 1.0
"""How long a closed polling session is kept, so that its next poll can fetch the goodbye."""
UPGRADE_SECONDS: Final = 10.0
"""How long an upgrade may take; meanwhile polls come back at once."""
RETRY_MS: Final = (1_000, 5_000)
"""Those who were sent away come back spread over this time, not all at once again."""


class Engine(engineio.AsyncServer):
    """python-engineio's server with connections of our own behind it.

    `origin_allowed(origin, host)` decides over the Origin of every request that has one.
    """

    def __init__(
        self,
        *,
        ping_interval_ms: int,
        ping_timeout_ms: int,
        limits: Limits,
        origin_allowed: Callable[[str, str], bool],
        on_limit: Callable[[str], None],
        **options: Any,
    ) -> None:
        super().__init__(monitor_clients=False, async_mode="aiohttp", **options)
        self.ping_interval_ms = ping_interval_ms
        self.ping_timeout_ms = ping_timeout_ms
        self.limits = limits
        self.is_draining = False
        self.shared: Sockets
        self._origin_allowed = origin_allowed
        self._on_limit = on_limit
        self._handshakes = Rate(limits.handshakes_per_second) if limits.handshakes_per_second is not None else None
        self._upgrades: Timeout[Upgrade]
        self._lingering: Timeout[str]

    def serve(self, receiver: Receiver) -> None:
        """Hand what comes to this receiver."""
        self.shared = Sockets(receiver, self.limits, self.ping_interval_ms, self.ping_timeout_ms)
        self._upgrades = self.shared.timeouts.after(UPGRADE_SECONDS, Upgrade.give_up)
        self._lingering = self.shared.timeouts.after(LINGER_SECONDS, lambda sid: self.sockets.pop(sid, None))

    # --- requests -------------------------------------------------------------------------------------------------

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """Answer one HTTP request on the Socket.IO path."""
        origin = request.headers.get("Origin")
        response = await self._answer(request, origin)
        if origin is not None and response.status != 403 and not response.prepared:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Vary"] = "Origin"
        return response

    async def _answer(self, request: web.Request, origin: str | None) -> web.StreamResponse:
        if request.method == "OPTIONS" and (origin is None or self._origin_allowed(origin, request.host)):
            return _preflight(request)
        handshake = from_request(request)
        refusal = self._refusal(handshake)
        if refusal is not None:
            return refusal.response()
        if handshake.query["transport"] == "websocket":
            return _taken_over(request, handshake, self._open_websocket)
        socket = self.sockets.get(handshake.query.get("sid"))
        if socket is None:
            socket = self._open(handshake)
            socket.polling = LongPolling(socket)
        if socket.polling is None:
            return refusals.BAD_REQUEST.response()
        if request.method == "GET":
            return await self._poll(socket, socket.polling, request)
        return await self._post(socket, socket.polling, request)

    def _refusal(self, handshake: Handshake) -> Refusal | None:
        """Why a request is not taken; None when it is. Costs no more than look-ups."""
        query, origin = handshake.query, handshake.headers.get("origin")
        if origin is not None and not self._origin_allowed(origin, handshake.host):
            return refusals.FORBIDDEN
        transport, sid = query.get("transport"), query.get("sid")
        if transport not in ("polling", "websocket"):
            return refusals.UNKNOWN_TRANSPORT
        if query.get("EIO") != "4":
            return refusals.UNKNOWN_VERSION
        if sid is None:
            return self._handshake_refusal(handshake)
        socket = self.sockets.get(sid)
        if socket is None or (socket.closed and handshake.method != "GET"):
            return refusals.UNKNOWN_SESSION
        if not socket.is_polling or (transport == "websocket" and handshake.websocket_key is None):
            return refusals.BAD_REQUEST
        if handshake.method not in ("GET", "POST"):
            return refusals.BAD_METHOD
        return None

    def _handshake_refusal(self, handshake: Handshake) -> Refusal | None:
        if handshake.method != "GET":
            return refusals.BAD_METHOD
        if handshake.query["transport"] == "websocket" and handshake.websocket_key is None:
            return refusals.BAD_REQUEST
        if self.is_draining:
            return refusals.draining(random.randint(*RETRY_MS))  # noqa: S311 - spreads load, hides nothing
        if self._handshakes is not None and not self._handshakes.take(self.shared.timeouts.now()):
            self._on_limit("handshakes")
            return refusals.busy(random.randint(*RETRY_MS))  # noqa: S311
        return None

    def accept(self, handshake: Handshake, transport: asyncio.Transport, behind: bytes) -> None:
        """Answer a websocket's opening handshake; `behind` is what the client has sent after it."""
        refusal = self._refusal(handshake)
        if refusal is None and handshake.query["transport"] != "websocket":
            refusal = refusals.BAD_REQUEST
        if refusal is None:
            self._open_websocket(handshake, transport, behind)
        else:
            transport.write(refusal.raw(handshake.headers.get("origin") if refusal.status != 403 else None))
            transport.close()

    def _open_websocket(self, handshake: Handshake, transport: asyncio.Transport, behind: bytes) -> None:
        """Be the websocket of a session, a new one or one that polls; the handshake has been found good."""
        opening = switching_protocols(handshake.websocket_key or b"")
        polling = self.sockets.get(handshake.query.get("sid"))
        if polling is None:
            socket = self._open(handshake)
            websocket = WebSocket(transport, socket, self.limits.payload_bytes)
            socket.attach(websocket, opening)
        else:
            upgrade = Upgrade(polling, self._upgrades)
            websocket = WebSocket(transport, upgrade, self.limits.payload_bytes)
            upgrade.attach(websocket)
            websocket.write(opening)
        if behind:
            websocket.data_received(behind)

    def _open(self, handshake: Handshake) -> Socket:
        """A new session, OPEN already on its way."""
        socket = Socket(self.generate_id(), self.shared)
        self.sockets[socket.sid] = socket
        upgrades = ["websocket"] if handshake.query["transport"] == "polling" else []
        socket.send(self._open_packet(socket.sid, upgrades))
        self.shared.receiver.opened(socket, handshake)
        return socket

    def _open_packet(self, sid: str, upgrades: list[str]) -> Packet:
        return Packet(
            b"0"
            + orjson.dumps(
                {
                    "sid": sid,
                    "upgrades": upgrades,
                    "pingInterval": self.ping_interval_ms,
                    "pingTimeout": self.ping_timeout_ms,
                    "maxPayload": self.limits.payload_bytes,
                }
            )
        )

    async def _poll(self, socket: Socket, polling: LongPolling, request: web.Request) -> web.StreamResponse:
        payload = await polling.poll()
        if payload is None:
            return refusals.BAD_REQUEST.response()
        if request.transport is None:
            # The client has given up the request, and what it was to bring would be missing from now on.
            socket.end("transport error")
        if socket.closed and not socket.has_goodbye:
            self.sockets.pop(socket.sid, None)
        return web.Response(body=payload, content_type="text/plain", charset="utf-8")

    async def _post(self, socket: Socket, polling: LongPolling, request: web.Request) -> web.StreamResponse:
        if not polling.begin_post():
            return refusals.BAD_REQUEST.response()
        try:
            return await self._take_post(socket, polling, request)
        finally:
            polling.end_post()

    async def _take_post(self, socket: Socket, polling: LongPolling, request: web.Request) -> web.StreamResponse:
        receiver = self.shared.receiver
        if "Content-Encoding" in request.headers:
            # No client compresses what it posts, and a small body could unfold into a large one.
            receiver.malformed(socket, MalformedPacket("compressed"))
            return refusals.BAD_REQUEST.response()
        body = bytearray()
        try:
            async with asyncio.timeout(POST_SECONDS):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self.limits.payload_bytes:
                        receiver.malformed(socket, PastLimit("payload_bytes"))
                        return web.Response(status=413)
        except TimeoutError:
            return web.Response(status=408)
        if socket.closed:
            return refusals.UNKNOWN_SESSION.response()
        try:
            await polling.post(bytes(body))
        except MalformedPacket as fault:
            receiver.malformed(socket, fault)
            return refusals.BAD_REQUEST.response()
        return web.Response(text="ok")

    def forget(self, socket: Socket) -> None:
        """Drop a closed session; a polling one lingers while it has something to fetch."""
        if socket.has_goodbye:
            self._lingering.begin(socket.sid)
        else:
            self.sockets.pop(socket.sid, None)

    # --- the interface that python-socketio's server calls --------------------------------------------------------

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

    def transport(self, sid: str) -> str:
        """`websocket` or `polling`. Raises: KeyError when there is no such connection."""
        return str(self.sockets[sid].transport_name)

    async def disconnect(self, sid: str | None = None) -> None:
        """End one session, or all."""
        for socket in [self.sockets[sid]] if sid in self.sockets else list(self.sockets.values()) if not sid else []:
            socket.end("server disconnect")


def _preflight(request: web.Request) -> web.Response:
    headers = {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Max-Age": "600"}
    if asked := request.headers.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = asked
    return web.Response(status=204, headers=headers)


# --- taking a websocket's connection over from aiohttp ----------------------------------------------------------------


class _Behind:
    """What aiohttp has read behind an opening handshake, asked for as a parser of its protocol asks."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Keep it."""
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing more comes by this way."""


class _NoResponse(web.StreamResponse):
    """The connection is not HTTP any more."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing."""


def _taken_over(
    request: web.Request, handshake: Handshake, open_websocket: Callable[[Handshake, asyncio.Transport, bytes], None]
) -> web.StreamResponse:
    protocol, transport = request.protocol, request.transport
    behind = _Behind()
    protocol.set_parser(behind)  # type: ignore[arg-type]
    if transport is not None:
        # aiohttp's protocol is told that its connection has gone, and has none left to close.
        protocol.transport = None
        protocol.connection_lost(None)
        open_websocket(handshake, transport, behind.data)
    return _NoResponse()
