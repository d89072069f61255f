"""One Engine.IO connection: a bounded outbound buffer over long-polling or a websocket, and its heartbeat.

Everything for a client goes through the one buffer in the order sent. On a websocket it leaves as a single write at
the end of the loop tick, because uvloop makes each write a system call; on polling it waits for the next GET.
"""

import asyncio
import base64
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from realtime.frames import CLOSE, NOOP, PING, PROBE_ANSWER, RECORD_SEPARATOR, Packet
from realtime.packets import MalformedPacket

MAX_BUFFERED_BYTES = 1_048_576
"""What a client may leave unread before it is cut: a slow reader must not become our memory."""
WEBSOCKET_CLOSE_SECONDS = 1.0
UPGRADE_SECONDS = 10.0
"""How long an upgrade may take; meanwhile polls come back at once, and nothing else watches its websocket."""
_NORMAL_CLOSURE = b"\x88\x02\x03\xe8"
_TOO_BIG = b"\x88\x02\x03\xf1"


class Receiver(Protocol):
    """What a socket hands its packets to."""

    def received(self, socket: "Socket", message: bytes) -> None:
        """A Socket.IO packet as text. Raises: MalformedPacket."""

    def received_binary(self, socket: "Socket", attachment: bytes) -> None:
        """A binary attachment. Raises: MalformedPacket."""

    def congested(self, socket: "Socket") -> bool:
        """Whether too many of the socket's events are under way to take more."""

    async def ready_to_receive(self, socket: "Socket") -> None:
        """Returns once the socket's earlier events leave room for more."""

    def malformed(self, socket: "Socket") -> None:
        """The client broke the protocol."""

    def overrun(self, socket: "Socket") -> None:
        """The client does not read what it is sent."""

    def closed(self, socket: "Socket", reason: str) -> None:
        """The connection is over; called once."""


class Socket:
    """An Engine.IO connection. `sid` is its Engine.IO session id; `sessions` its Socket.IO sessions, by namespace."""

    __slots__ = (
        "_answer", "_buffer", "_buffered", "_closing_frame", "_flushing", "_loop", "_poll", "_probing", "_receiver",
        "_timer", "_transport", "_websocket", "closed", "cut", "ping_interval", "ping_timeout", "sessions", "sid",
    )  # fmt: skip

    def __init__(self, sid: str, receiver: Receiver, ping_interval: float, ping_timeout: float) -> None:
        self.sid = sid
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.closed = False
        self.cut = False
        self.sessions: dict[str, Any] = {}
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._buffer: list[Packet] = []
        self._buffered = 0
        self._closing_frame = _NORMAL_CLOSURE
        self._flushing = False
        self._probing = False
        self._poll: asyncio.Future[None] | None = None
        self._websocket: web.WebSocketResponse | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(ping_interval, self._ping)
        self._answer: asyncio.Future[None] | None = None

    @property
    def transport_name(self) -> str:
        """`websocket` or `polling`."""
        return "polling" if self._websocket is None else "websocket"

    # --- outbound -----------------------------------------------------------------------------------------------

    def send(self, packet: Packet) -> None:
        """Queue a packet behind all earlier ones; never waits. A client that has left 1 MiB unread is cut."""
        if self.closed:
            return
        self._buffer.append(packet)
        self._buffered += len(packet.frame)
        if self._transport is not None:
            if self._buffered > MAX_BUFFERED_BYTES:
                # What one tick brings is held against the client only when the network does not take it.
                self._flush()
            elif not self._flushing:
                self._flushing = True
                self._loop.call_soon(self._flush)
        elif self._buffered > MAX_BUFFERED_BYTES:
            self._receiver.overrun(self)
        elif self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def _flush(self) -> None:
        self._flushing = False
        transport = self._transport
        if transport is None or not self._buffer:
            return
        packets, self._buffer, self._buffered = self._buffer, [], 0
        if transport.is_closing():
            return
        transport.write(packets[0].frame if len(packets) == 1 else b"".join([packet.frame for packet in packets]))
        if transport.get_write_buffer_size() > MAX_BUFFERED_BYTES:
            self._receiver.overrun(self)

    # --- heartbeat ----------------------------------------------------------------------------------------------

    def _ping(self) -> None:
        self.send(PING)
        if not self.closed:
            self._timer = self._loop.call_later(self.ping_timeout, self.end, "ping timeout")

    async def answers_within(self, seconds: float) -> bool:
        """Ping the client now; whether it answers in this time."""
        answer = self._answer = self._loop.create_future()
        self.send(PING)
        await asyncio.wait([answer], timeout=seconds)
        return answer.done()

    def _pong(self) -> None:
        if self._answer is not None:
            self._answer.set_result(None)
            self._answer = None
        if self._timer is not None and not self.closed:
            self._timer.cancel()
            self._timer = self._loop.call_later(self.ping_interval, self._ping)

    # --- inbound ------------------------------------------------------------------------------------------------

    def _packet(self, packet: bytes) -> None:
        """Take one text packet. Raises: MalformedPacket."""
        kind = packet[:1]
        if kind == b"4":
            self._receiver.received(self, packet[1:])
        elif packet == b"3":
            self._pong()
        elif packet == b"1":
            self.end("transport close")
        else:
            raise MalformedPacket("unexpected Engine.IO packet")

    async def serve_websocket(self, request: web.Request, max_payload: int) -> web.StreamResponse:
        """Be this connection's websocket until it ends: from the start, or after an upgrade from polling."""
        upgrading = self._websocket is None and self._poll is not None
        # aiohttp refuses what reaches its limit, not only what exceeds it.
        websocket = _WebSocket(
            self._too_big,
            compress=False,
            max_msg_size=max_payload + 1,
            decode_text=False,
            timeout=WEBSOCKET_CLOSE_SECONDS,
        )
        await websocket.prepare(request)
        if upgrading and not await self._probe(websocket):
            await websocket.close()
            return websocket
        transport = request.transport
        if self.closed or self._websocket is not None or transport is None:
            await websocket.close()
            return websocket
        self._websocket, self._transport, self._probing = websocket, transport, False
        self._flush()
        try:
            await self._read(websocket)
        finally:
            self.end("transport close")
        return websocket

    async def _probe(self, websocket: web.WebSocketResponse) -> bool:
        """The upgrade handshake: `2probe`, `3probe`, then `5` once the client's last poll has come back."""
        upgraded = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UPGRADE_SECONDS):
                if await _says(websocket, b"2probe"):
                    await websocket.send_str(PROBE_ANSWER.payload.decode())
                    self._probing = True
                    self._release_poll()
                    upgraded = await _says(websocket, b"5")
        self._probing = upgraded
        return upgraded

    async def _read(self, websocket: web.WebSocketResponse) -> None:
        try:
            while not self.closed:
                if self._receiver.congested(self):
                    await self._receiver.ready_to_receive(self)
                message = await websocket.receive()
                if message.type is WSMsgType.TEXT:
                    self._packet(message.data)
                elif message.type is WSMsgType.BINARY:
                    self._receiver.received_binary(self, message.data)
                else:
                    return
        except MalformedPacket:
            self._receiver.malformed(self)
            await self._drained()

    def _too_big(self) -> None:
        self._closing_frame = _TOO_BIG
        self._receiver.malformed(self)

    async def _drained(self) -> None:
        """Give the goodbye a chance to leave: what is buffered is flushed in this tick."""
        await asyncio.sleep(0)
        self._flush()

    # --- long-polling -------------------------------------------------------------------------------------------

    async def poll(self) -> bytes | None:
        """The next polling payload: all that is buffered, waiting for the first packet.

        Returns None when another poll is already waiting, which ends the connection, as the protocol asks.
        """
        if self._poll is not None and not self._poll.done():
            self.end("transport error")
            return None
        self._poll = self._loop.create_future()
        if not self._buffer and not self._probing and not self.closed:
            await self._poll
        else:
            self._poll.set_result(None)
        packets, self._buffer, self._buffered = self._buffer, [], 0
        if self.closed or not packets:
            packets.append(CLOSE if self.closed else NOOP)
        return RECORD_SEPARATOR.join([packet.for_polling() for packet in packets])

    def opened_for_polling(self) -> None:
        """The first poll has been answered by the handshake itself."""
        self._poll = self._loop.create_future()
        self._poll.set_result(None)

    def _release_poll(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    async def post(self, body: bytes, max_packets: int) -> None:
        """Take a polling payload. Raises: MalformedPacket, after which the connection is over."""
        packets = body.split(RECORD_SEPARATOR)
        if len(packets) > max_packets:
            raise MalformedPacket("too many packets in one payload")
        for packet in packets:
            if self._receiver.congested(self):
                await self._receiver.ready_to_receive(self)
            if packet[:1] == b"b":
                try:
                    attachment = base64.b64decode(packet[1:], validate=True)
                except ValueError as error:
                    raise MalformedPacket("bad base64") from error
                self._receiver.received_binary(self, attachment)
            else:
                self._packet(packet)

    # --- the end ------------------------------------------------------------------------------------------------

    def finish(self, reason: str) -> None:
        """End the connection after what is buffered has been written."""
        if self._transport is not None:
            self._flush()
        self.end(reason)

    def end(self, reason: str) -> None:
        """End the connection now; the receiver hears of it once."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._release_poll()
        if self._transport is not None:
            # A client that does not read would hold a polite close up for ever.
            self._loop.call_later(WEBSOCKET_CLOSE_SECONDS, self._transport.abort)
            if not self._transport.is_closing():
                self._transport.write(self._closing_frame)
                self._transport.close()
        self._receiver.closed(self, reason)


class _WebSocket(web.WebSocketResponse):
    """aiohttp's websocket, which lets us say why before it closes on a message past its limit."""

    def __init__(self, too_big: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._too_big = too_big

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; with 1009 the client is told first."""
        if code == WSCloseCode.MESSAGE_TOO_BIG:
            self._too_big()
        return await super().close(code=code, message=message, drain=drain)


async def _says(websocket: web.WebSocketResponse, text: bytes) -> bool:
    message = await websocket.receive()
    return message.type is WSMsgType.TEXT and message.data == text
