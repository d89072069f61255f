"""The server's end of a websocket, straight on the transport: frames in, frames out, nothing per message kept.

Source: RFC 6455, sections 5 (framing) and 7 (closing). Extensions are not negotiated, so no frame is compressed.
"""

import asyncio
from typing import Final, Protocol

from realtime.frames import BINARY, CLOSING, PINGING, PONGING, TEXT, websocket_frame

NORMAL_CLOSURE: Final = 1000
PROTOCOL_ERROR: Final = 1002
INVALID_PAYLOAD: Final = 1007
MESSAGE_TOO_BIG: Final = 1009
CLOSE_SECONDS: Final = 1.0
"""How long a client may take to read the goodbye and to close its end."""
_CONTINUATION: Final = 0x0
_CONTROL_MAX: Final = 125


class Consumer(Protocol):
    """Who takes what a websocket brings."""

    def text(self, message: bytes) -> None:
        """A text message, in UTF-8."""

    def binary(self, message: bytes) -> None:
        """A binary message."""

    def broken(self, code: int) -> None:
        """The client broke the framing; the websocket is to be closed with this code."""

    def stalled(self) -> None:
        """The client does not take what was written; nothing more should be, until `drained`."""

    def drained(self) -> None:
        """Everything written has been taken."""

    def lost(self) -> None:
        """The connection has gone; called once."""


class WebSocket(asyncio.Protocol):
    """One websocket behind its opening handshake.

    `consumer` may be replaced at any time. Messages longer than `max_message_bytes`, fragments taken together, close
    the websocket, as does anything that RFC 6455 forbids a client.
    """

    __slots__ = (
        "_closing", "_fragments", "_kind", "_max_message_bytes", "_needed", "_paused", "_rest", "consumer",
        "is_stalled", "transport",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, consumer: Consumer, max_message_bytes: int) -> None:
        self.consumer = consumer
        self.transport = transport
        self.is_stalled = False
        self._max_message_bytes = max_message_bytes
        self._rest: bytes | bytearray = b""
        self._needed = 0
        self._kind = _CONTINUATION
        self._fragments: bytearray | None = None
        self._closing = False
        self._paused = False
        # Told at once when something is left unwritten, and when nothing is: the socket above keeps the rest itself.
        transport.set_write_buffer_limits(0)
        transport.set_protocol(self)

    # --- out ------------------------------------------------------------------------------------------------------

    def write(self, frames: bytes) -> None:
        """Write whole frames. Never waits."""
        if not self._closing and not self.transport.is_closing():
            self.transport.write(frames)

    def close(self, code: int = NORMAL_CLOSURE) -> None:
        """Say goodbye behind what was written; what still comes is ignored, and after 1 s the connection is cut."""
        if self._closing:
            return
        self.write(websocket_frame(code.to_bytes(2, "big"), CLOSING))
        self._closing = True
        self.resume_reading()
        # A client that does not read would hold a polite close up for ever.
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        """The transport could not write everything."""
        self.is_stalled = True
        self.consumer.stalled()

    def resume_writing(self) -> None:
        """The transport has written everything."""
        self.is_stalled = False
        self.consumer.drained()

    # --- in -------------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Take no further message, and let the client feel it."""
        if not self._paused and not self._closing:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on with what has come meanwhile."""
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
            self._needed = 0
            self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        """Take what has come, frame by frame."""
        if self._rest:
            # Extended in place: a large message comes in many pieces.
            if not isinstance(self._rest, bytearray):
                self._rest = bytearray(self._rest)
            self._rest += data
            if len(self._rest) < self._needed or self._paused:
                return
            data, self._rest, self._needed = bytes(self._rest), b"", 0
        position, end = 0, len(data)
        while position < end and not self._paused:
            following = self._frame(data, position, end)
            if following < 0:
                break
            position = following
        if position < end and not self.transport.is_closing():
            self._rest = data[position:]

    def _frame(self, data: bytes, start: int, end: int) -> int:
        """Take the frame that begins at `start`. Returns where the next one begins; -1 when this one is not whole."""
        if end - start < 2:
            return -1
        first, length, position = data[start], data[start + 1], start + 2
        if length < 0x80:
            return self._break(PROTOCOL_ERROR, end)
        length &= 0x7F
        if length > _CONTROL_MAX:
            size = 2 if length == 126 else 8
            if end - position < size:
                return -1
            length = int.from_bytes(data[position : position + size], "big")
            position += size
            if first & CLOSING:
                return self._break(PROTOCOL_ERROR, end)
        if not first & CLOSING and length + self._fragmented > self._max_message_bytes:
            return self._break(MESSAGE_TOO_BIG, end)
        payload_at = position + 4
        following = payload_at + length
        if following > end:
            self._needed = following - start
            return -1
        payload = _unmasked(data[position:payload_at], data[payload_at:following])
        if first == 0x80 | TEXT and self._fragments is None and not self._closing:
            self._text(payload)
        else:
            self._unusual(first, payload)
        return following

    @property
    def _fragmented(self) -> int:
        """Bytes of an unfinished message."""
        return 0 if self._fragments is None else len(self._fragments)

    def _text(self, message: bytes) -> None:
        if not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                self._break(INVALID_PAYLOAD, 0)
                return
        self.consumer.text(message)

    def _unusual(self, first: int, payload: bytes) -> None:
        """All but a whole text message."""
        opcode, is_final = first & 0x0F, first >= 0x80
        if first & 0x70 or (opcode >= CLOSING and not is_final):
            self._break(PROTOCOL_ERROR, 0)
        elif opcode == CLOSING:
            self._closed_by_client(payload)
        elif self._closing or opcode == PONGING:
            return
        elif opcode == PINGING:
            # While nothing is read, answers would only pile up.
            if not self.is_stalled:
                self.write(websocket_frame(payload, PONGING))
        elif opcode in (TEXT, BINARY, _CONTINUATION) and (opcode == _CONTINUATION) == (self._fragments is not None):
            self._fragment(opcode, is_final, payload)
        else:
            self._break(PROTOCOL_ERROR, 0)

    def _fragment(self, opcode: int, is_final: bool, payload: bytes) -> None:
        if self._fragments is None:
            self._fragments, self._kind = bytearray(), opcode
        self._fragments += payload
        if is_final:
            message, self._fragments = bytes(self._fragments), None
            if self._kind == TEXT:
                self._text(message)
            else:
                self.consumer.binary(message)

    def _closed_by_client(self, payload: bytes) -> None:
        """Answer with the client's own code, and close: the server goes first (section 7.1.1)."""
        code = int.from_bytes(payload[:2], "big") if payload else NORMAL_CLOSURE
        if not self._closing:
            if len(payload) == 1 or not _may_be_sent(code):
                self._break(PROTOCOL_ERROR, 0)
                return
            if not _is_utf8(payload[2:]):
                self._break(INVALID_PAYLOAD, 0)
                return
            self.write(websocket_frame(payload[:2], CLOSING))
            self._closing = True
        self.transport.close()

    def _break(self, code: int, end: int) -> int:
        """The client broke the framing. Returns `end`, past which nothing is read."""
        if not self._closing:
            self.consumer.broken(code)
            self.close(code)
        return end

    def eof_received(self) -> None:
        """The client has closed its end: so does the server."""

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has gone."""
        self._closing = True
        self._rest, self._fragments = b"", None
        self.consumer.lost()


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    """The payload as it was before the client masked it (section 5.3): one wide XOR."""
    length = len(payload)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(length, "little")


def _may_be_sent(code: int) -> bool:
    """Whether a close frame may carry this code (section 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _is_utf8(reason: bytes) -> bool:
    try:
        reason.decode()
    except UnicodeDecodeError:
        return False
    return True
