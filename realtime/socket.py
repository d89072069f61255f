"""One Engine.IO connection: a bounded outbound buffer over long-polling or a websocket, and its heartbeat.

Everything for a client goes through the one buffer in the order sent. On a websocket it leaves as a single write at
the end of the loop tick, because uvloop makes each write a system call; on polling it waits for the next GET.
"""

import asyncio
from typing import Any, Final

from realtime.frames import NOOP, PING, Packet
from realtime.long_polling import LongPolling, attachment_of
from realtime.packets import MalformedPacket, PastLimit
from realtime.sockets import Sockets
from realtime.websocket import MESSAGE_TOO_BIG, NORMAL_CLOSURE, WebSocket

UNCHECKED_BYTES: Final = 4_096
"""A buffer shorter than this is not looked at."""


class Socket:
    """An Engine.IO connection. `sid` is its Engine.IO session id; `sessions` its Socket.IO sessions, by namespace."""

    __slots__ = (
        "_all", "_answer", "_buffer", "_buffered", "_code", "_held", "_lazy", "_unflushed", "_websocket", "closed",
        "cut", "polling", "sessions", "sid",
    )  # fmt: skip

    def __init__(self, sid: str, sockets: Sockets) -> None:
        self.sid = sid
        self.closed = False
        self.cut = False
        self.polling: LongPolling | None = None
        self.sessions: dict[str, Any] = {}
        self._all = sockets
        self._buffer: list[Packet] = []
        self._buffered = 0
        self._code = NORMAL_CLOSURE
        self._held: asyncio.Future[None] | None = None
        self._unflushed = False
        self._lazy = False
        self._answer: asyncio.Future[None] | None = None
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
        buffered = self._buffered = self._buffered + len(packet.frame)
        if buffered > UNCHECKED_BYTES and not self._may_buffer(packet):
            return
        if self._unflushed:
            return
        if self._websocket is not None:
            if not packet.droppable:
                self._unflushed = True
                self._all.flush_later(self)
            elif not self._lazy:
                self._lazy = True
                self._all.flush_lazily(self)
        elif self.polling is not None and not self.polling.release() and len(self._buffer) == 1:
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
        """Write what is buffered in one piece, if this is a websocket that takes it; the last words in any case."""
        self._unflushed = self._lazy = False
        websocket, packets = self._websocket, self._buffer
        if packets and websocket is not None and (self.closed or not websocket.is_stalled):
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

    async def answers_within(self, seconds: float) -> bool:
        """Ping the client now; whether it answers in this time."""
        answer = self._answer = asyncio.get_running_loop().create_future()
        self.send(PING)
        await asyncio.wait([answer], timeout=seconds)
        return answer.done()

    def _pong(self) -> None:
        if self._answer is not None:
            self._answer.set_result(None)
            self._answer = None
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
            self._buffer = [NOOP] if self.polling is not None and self.polling.is_waiting else []
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

    @property
    def is_polling(self) -> bool:
        """Whether the client comes by polling, so that it may upgrade."""
        return self._websocket is None and self.polling is not None

    def poll_until(self, limit: int) -> list[Packet]:
        """Take so many of the buffered packets for a poll; what is left is held against the client until the next."""
        packets, self._buffer = self._buffer[:limit], self._buffer[limit:]
        self._buffered = sum(len(packet.frame) for packet in self._buffer)
        if self._buffer:
            self._all.stalled.begin(self)
        else:
            self._all.stalled.end(self)
        return packets

    @property
    def has_unread(self) -> bool:
        """Whether something is buffered."""
        return bool(self._buffer)

    @property
    def has_goodbye(self) -> bool:
        """Whether a polling client has something left to fetch."""
        return self.is_polling and (self.has_unread or (self.polling is not None and self.polling.is_waiting))

    async def post(self, packets: list[bytes]) -> None:
        """Take the packets of a POST. Raises: MalformedPacket, after which the connection is over."""
        if len(packets) > self._all.limits.packets_per_post:
            raise PastLimit("packets_per_post")
        for packet in packets:
            if self._held is not None:
                await self._held
            if self.closed:
                return
            if packet[:1] == b"b":
                self._all.receiver.received_binary(self, attachment_of(packet))
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
        if self.polling is not None:
            self.polling.release()
        self.release()
        if self._websocket is not None:
            self.flush()
            self._websocket.close(self._code)
        shared.receiver.closed(self, reason)
