"""One Engine.IO connection: a bounded outbound buffer over long-polling or a websocket, and its heartbeat.

Everything for a client goes through the one buffer in the order sent. On a websocket it leaves as a single write at
the end of the loop tick, because uvloop makes each write a system call; on polling it waits for the next GET.
"""

import asyncio
import base64
from typing import Any, Final, Protocol

from realtime.frames import CLOSE, NOOP, PING, RECORD_SEPARATOR, Packet
from realtime.handshake import Handshake
from realtime.limits import Limits
from realtime.packets import MalformedPacket, PastLimit
from realtime.timeouts import Timeout, Timeouts
from realtime.websocket import MESSAGE_TOO_BIG, NORMAL_CLOSURE, WebSocket

POLL_PACKETS_MAX: Final = 16
"""Packets that one poll brings: the stock Python client gives up its connection over more."""
LAZY_SECONDS: Final = 0.1
"""How long droppable packets wait for company: in a busy room most of their cost is writing each by itself."""
LAZY_AT_ONCE: Final = 1_000
"""Sockets written to before the loop may do something else; one takes it up to 10 µs."""
UNCHECKED_BYTES: Final = 4_096
"""A buffer shorter than this is not looked at."""


class Receiver(Protocol):
    """What sockets hand their packets to."""

    def opened(self, socket: "Socket", handshake: Handshake) -> None:
        """A connection has begun."""

    def received(self, socket: "Socket", message: bytes) -> None:
        """A Socket.IO packet as text. Raises: MalformedPacket."""

    def received_binary(self, socket: "Socket", attachment: bytes) -> None:
        """A binary attachment. Raises: MalformedPacket."""

    def malformed(self, socket: "Socket", fault: MalformedPacket) -> None:
        """The client broke the protocol."""

    def overrun(self, socket: "Socket") -> None:
        """The client does not read what it is sent."""

    def closed(self, socket: "Socket", reason: str) -> None:
        """The connection is over; called once."""


class Sockets:
    """What all sockets of a server share: their bounds, their timeouts, and the flush at the end of a tick.

    `dropped` counts droppable packets that were left out for clients that lag behind.
    """

    def __init__(self, receiver: Receiver, limits: Limits, ping_interval_ms: int, ping_timeout_ms: int) -> None:
        self.receiver = receiver
        self.limits = limits
        self.dropped = 0
        timeouts = Timeouts()
        self.timeouts = timeouts
        self.quiet: Timeout[Socket] = timeouts.after(ping_interval_ms / 1000, Socket.ping)
        self.unanswered: Timeout[Socket] = timeouts.after(ping_timeout_ms / 1000, Socket.ping_timeout)
        self.stalled: Timeout[Socket] = timeouts.after(limits.buffered_seconds, receiver.overrun)
        self._loop = asyncio.get_running_loop()
        self._unflushed: list[Socket] = []
        self._lazy: list[Socket] = []

    def flush_later(self, socket: "Socket") -> None:
        """Have a socket write its buffer at the end of this tick."""
        if not self._unflushed:
            self._loop.call_soon(self._flush_all)
        self._unflushed.append(socket)

    def flush_lazily(self, socket: "Socket") -> None:
        """Have a socket write its buffer in a moment, unless it has by then."""
        if not self._lazy:
            self._loop.call_later(LAZY_SECONDS, self._flush_lazy)
        self._lazy.append(socket)

    def _flush_lazy(self) -> None:
        sockets = self._lazy[:LAZY_AT_ONCE]
        del self._lazy[:LAZY_AT_ONCE]
        for socket in sockets:
            socket.flush()
        if self._lazy:
            self._loop.call_soon(self._flush_lazy)

    def _flush_all(self) -> None:
        sockets, self._unflushed = self._unflushed, []
        for socket in sockets:
            socket.flush()


class Socket:
    """An Engine.IO connection. `sid` is its Engine.IO session id; `sessions` its Socket.IO sessions, by namespace."""

    __slots__ = (
        "_all", "_buffer", "_buffered", "_code", "_held", "_lazy", "_poll", "_posting", "_unflushed", "_websocket",
        "closed", "cut", "probing", "sessions", "sid",
    )  # fmt: skip

    def __init__(self, sid: str, sockets: Sockets) -> None:
        self.sid = sid
        self.closed = False
        self.cut = False
        self.probing = False
        self.sessions: dict[str, Any] = {}
        self._all = sockets
        self._buffer: list[Packet] = []
        self._buffered = 0
        self._code = NORMAL_CLOSURE
        self._held: asyncio.Future[None] | None = None
        self._unflushed = False
        self._posting = False
        self._lazy = False
        self._poll: asyncio.Future[None] | None = None
        self._websocket: WebSocket | None = None
        sockets.quiet.begin(self)

    @property
    def transport_name(self) -> str:
        """`websocket` or `polling`."""
        return "polling" if self._websocket is None else "websocket"

    # --- outbound -------------------------------------------------------------------------------------------------

    def send(self, packet: Packet) -> None:
        """Queue a packet behind all earlier ones; never waits.

        A client that has left more unread than the bound is cut; from half of it on, droppable packets are left out.
        """
        if self.closed:
            return
        self._buffer.append(packet)
        self._buffered += len(packet.frame)
        if self._buffered > UNCHECKED_BYTES and not self._may_buffer(packet):
            return
        if self._websocket is not None:
            if packet.droppable:
                if not self._unflushed and not self._lazy:
                    self._lazy = True
                    self._all.flush_lazily(self)
            elif not self._unflushed:
                self._unflushed = True
                self._all.flush_later(self)
        elif self._poll is not None:
            if not self._poll.done():
                self._poll.set_result(None)
            elif len(self._buffer) == 1:
                self._all.stalled.begin(self)

    def _may_buffer(self, packet: Packet) -> bool:
        """Whether the packet that was just queued stays."""
        bound, unread = self._all.limits.buffered_bytes, self._unread
        if packet.droppable and unread > bound // 2:
            self._buffer.pop()
            self._buffered -= len(packet.frame)
            self._all.dropped += 1
            return False
        if unread > bound:
            # What one tick brings is held against the client only when the network does not take it.
            self.flush()
            if self._unread > bound:
                self._all.receiver.overrun(self)
        return True

    @property
    def _unread(self) -> int:
        """Bytes that the client, or the network, has not taken."""
        websocket = self._websocket
        return self._buffered + (websocket.transport.get_write_buffer_size() if websocket is not None else 0)

    def flush(self) -> None:
        """Write what is buffered in one piece, if this is a websocket that takes it."""
        self._unflushed = self._lazy = False
        websocket = self._websocket
        if websocket is not None and not websocket.is_stalled:
            self._write(websocket)

    def _write(self, websocket: WebSocket) -> None:
        packets = self._buffer
        if packets:
            self._buffer, self._buffered = [], 0
            websocket.write(packets[0].frame if len(packets) == 1 else b"".join([packet.frame for packet in packets]))

    def stalled(self) -> None:
        """The websocket could not write everything: what follows stays here."""
        self._all.stalled.begin(self)

    def drained(self) -> None:
        """The websocket has written everything."""
        self._all.stalled.end(self)
        self.flush()

    # --- heartbeat ------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Ask the client whether it is there."""
        self.send(PING)
        if not self.closed:
            self._all.unanswered.begin(self)

    def ping_timeout(self) -> None:
        """The client has not answered."""
        self.end("ping timeout")

    def _pong(self) -> None:
        self._all.unanswered.end(self)
        self._all.quiet.begin(self)

    # --- inbound --------------------------------------------------------------------------------------------------

    def _packet(self, packet: bytes) -> None:
        """Take one text packet. Raises: MalformedPacket."""
        kind = packet[:1]
        if kind == b"4":
            self._all.receiver.received(self, packet[1:])
        elif packet == b"3":
            self._pong()
        elif packet == b"1":
            # The client knows: whatever waits for it is not delivered, and a poll that waits comes back empty.
            self._buffer = [NOOP] if self._poll is not None and not self._poll.done() else []
            self.end("transport close")
        else:
            raise MalformedPacket("unexpected Engine.IO packet")

    def hold(self) -> None:
        """Read no more from the client for now."""
        if self._held is None and not self.closed:
            self._held = asyncio.get_running_loop().create_future()
            if self._websocket is not None:
                self._websocket.pause_reading()

    def release(self) -> None:
        """Read on."""
        held, self._held = self._held, None
        if held is not None:
            held.set_result(None)
            if self._websocket is not None:
                self._websocket.resume_reading()

    # --- as a websocket's consumer --------------------------------------------------------------------------------

    def attach(self, websocket: WebSocket, opening: bytes = b"") -> None:
        """Go on over a websocket: from the start, its `opening` not written yet, or after an upgrade from polling."""
        self._websocket = websocket
        self.probing = False
        self._all.stalled.end(self)
        websocket.consumer = self
        packets, self._buffer, self._buffered = self._buffer, [], 0
        if opening or packets:
            websocket.write(opening + b"".join([packet.frame for packet in packets]))

    def text(self, message: bytes) -> None:
        """Take one message of the websocket."""
        if self.closed:
            return
        try:
            self._packet(message)
        except MalformedPacket as fault:
            self._all.receiver.malformed(self, fault)

    def binary(self, message: bytes) -> None:
        """Take one binary message of the websocket."""
        if self.closed:
            return
        try:
            self._all.receiver.received_binary(self, message)
        except MalformedPacket as fault:
            self._all.receiver.malformed(self, fault)

    def broken(self, code: int) -> None:
        """The client broke the websocket's framing."""
        self._code = code
        too_big = code == MESSAGE_TOO_BIG
        self._all.receiver.malformed(self, PastLimit("payload_bytes") if too_big else MalformedPacket("bad framing"))

    def lost(self) -> None:
        """The websocket has gone. What dies here refers to nothing that refers to it: it need not be collected."""
        self.end("transport close")
        self._websocket = None

    # --- long-polling ---------------------------------------------------------------------------------------------

    async def poll(self) -> bytes | None:
        """The next polling payload: all that is buffered, waiting for the first packet.

        Behind the last packet of a closed connection comes CLOSE, unless the client has closed it. Returns None when
        another poll is already waiting, which ends the connection, as the protocol asks.
        """
        if self._poll is not None and not self._poll.done():
            self.end("transport error")
            return None
        self._poll = asyncio.get_running_loop().create_future()
        self._all.stalled.end(self)
        if not self._buffer and not self.probing and not self.closed:
            await self._poll
        else:
            self._poll.set_result(None)
        packets, self._buffer = self._buffer[:POLL_PACKETS_MAX], self._buffer[POLL_PACKETS_MAX:]
        self._buffered = sum(len(packet.frame) for packet in self._buffer)
        if self._buffer:
            self._all.stalled.begin(self)
        elif packets != [NOOP] and len(packets) < POLL_PACKETS_MAX and (self.closed or not packets):
            packets.append(CLOSE if self.closed else NOOP)
        return RECORD_SEPARATOR.join([packet.for_polling() for packet in packets])

    def opened_for_polling(self) -> None:
        """The first poll has been answered by the handshake itself."""
        self._poll = asyncio.get_running_loop().create_future()
        self._poll.set_result(None)

    @property
    def is_polling(self) -> bool:
        """Whether the client comes by polling, so that it may upgrade."""
        return self._websocket is None and self._poll is not None

    def probe(self) -> None:
        """An upgrade is under way: polls come back at once."""
        self.probing = True
        self._release_poll()

    def _release_poll(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    @property
    def has_goodbye(self) -> bool:
        """Whether a polling client has something left to fetch."""
        return self.is_polling and (bool(self._buffer) or (self._poll is not None and not self._poll.done()))

    def begin_post(self) -> bool:
        """A POST begins; False, and the end of the connection, when another is under way: they have no order."""
        if self._posting:
            self.end("transport error")
            return False
        self._posting = True
        return True

    def end_post(self) -> None:
        """The POST has been taken, or refused."""
        self._posting = False

    async def post(self, body: bytes) -> None:
        """Take a polling payload. Raises: MalformedPacket, after which the connection is over."""
        packets = body.split(RECORD_SEPARATOR)
        if len(packets) > self._all.limits.packets_per_post:
            raise PastLimit("packets_per_post")
        for packet in packets:
            if self._held is not None:
                await self._held
            if self.closed:
                return
            if packet[:1] == b"b":
                try:
                    attachment = base64.b64decode(packet[1:], validate=True)
                except ValueError as error:
                    raise MalformedPacket("bad base64") from error
                self._all.receiver.received_binary(self, attachment)
            else:
                self._packet(packet)

    # --- the end --------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """End the connection behind what is buffered; the receiver hears of it once."""
        if self.closed:
            return
        self.closed = True
        shared = self._all
        shared.quiet.end(self)
        shared.unanswered.end(self)
        shared.stalled.end(self)
        self._release_poll()
        self.release()
        if self._websocket is not None:
            self._write(self._websocket)
            self._websocket.close(self._code)
        shared.receiver.closed(self, reason)
