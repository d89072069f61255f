"""A connection by HTTP: one GET that waits for what there is to say, one POST at a time for what the client says.

Source: Engine.IO protocol 4, "HTTP long-polling".
"""

import asyncio
import base64
from typing import TYPE_CHECKING, Final

from realtime.frames import CLOSE, NOOP, RECORD_SEPARATOR
from realtime.packets import MalformedPacket

if TYPE_CHECKING:
    from realtime.socket import Socket

POLL_PACKETS_MAX: Final = 16
"""Packets that one poll brings: the stock Python client gives up its connection over more."""


class LongPolling:
    """The polls and posts of one socket. While an upgrade is `probing`, polls come back at once."""

    __slots__ = ("_poll", "_posting", "_probing", "_socket")

    def __init__(self, socket: "Socket") -> None:
        self._socket = socket
        self._poll: asyncio.Future[None] | None = None
        self._posting = False
        self._probing = False

    @property
    def is_waiting(self) -> bool:
        """Whether a poll waits for a packet."""
        return self._poll is not None and not self._poll.done()

    def release(self) -> bool:
        """Let a waiting poll come back; whether there was one."""
        if self._poll is None or self._poll.done():
            return False
        self._poll.set_result(None)
        return True

    @property
    def probing(self) -> bool:
        """Whether an upgrade is under way."""
        return self._probing

    def probe(self) -> None:
        """An upgrade is under way."""
        self._probing = True
        self.release()

    def end_probe(self) -> None:
        """The upgrade has failed: go on by polling."""
        self._probing = False

    async def poll(self) -> bytes | None:
        """The next polling payload: what is buffered, waiting for the first packet.

        Behind the last packet of a closed connection comes CLOSE, unless the client has closed it. Returns None when
        another poll is already waiting, which ends the connection, as the protocol asks.
        """
        socket = self._socket
        if self.is_waiting:
            socket.end("transport error")
            return None
        if not socket.has_unread and not self._probing and not socket.closed:
            self._poll = asyncio.get_running_loop().create_future()
            await self._poll
        packets = socket.poll_until(POLL_PACKETS_MAX)
        is_last = not socket.has_unread and packets != [NOOP] and len(packets) < POLL_PACKETS_MAX
        if is_last and (socket.closed or not packets):
            packets.append(CLOSE if socket.closed else NOOP)
        return RECORD_SEPARATOR.join([packet.for_polling() for packet in packets])

    def begin_post(self) -> bool:
        """A POST begins; False, and the end of the connection, when another is under way: they have no order."""
        if self._posting:
            self._socket.end("transport error")
            return False
        self._posting = True
        return True

    async def post(self, body: bytes) -> None:
        """Take the POST's payload. Raises: MalformedPacket, after which the connection is over."""
        await self._socket.post(body.split(RECORD_SEPARATOR))

    def end_post(self) -> None:
        """The POST has been taken, or refused."""
        self._posting = False


def attachment_of(packet: bytes) -> bytes:
    """The bytes that a polling payload carries as base64 behind a `b`. Raises: MalformedPacket."""
    try:
        return base64.b64decode(packet[1:], validate=True)
    except ValueError as error:
        raise MalformedPacket("bad base64") from error
