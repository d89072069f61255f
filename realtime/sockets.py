"""What all sockets of a server share: who takes what they bring, their bounds, their timeouts, and when they write."""

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from realtime.handshake import Handshake
from realtime.limits import Limits
from realtime.packets import MalformedPacket
from realtime.timeouts import Timeout, Timeouts

if TYPE_CHECKING:
    from realtime.socket import Socket

LAZY_SECONDS: Final = 0.1
"""How long droppable packets wait for company: in a busy room most of their cost is writing each by itself."""
LAZY_AT_ONCE: Final = 1_000
"""Sockets written to before the loop may do something else; one takes it up to 10 µs."""


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
        self.quiet: Timeout[Socket] = timeouts.after(ping_interval_ms / 1000, lambda socket: socket.ping())
        self.unanswered: Timeout[Socket] = timeouts.after(ping_timeout_ms / 1000, lambda socket: socket.ping_timeout())
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
        # The last come first: acks are behind the events of a whole room, and their senders can go on meanwhile.
        for socket in reversed(sockets):
            socket.flush()
