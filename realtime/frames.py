"""One packet, encoded once for all its recipients: as a websocket frame and as a polling payload.

Sources: RFC 6455 section 5.2 (frames), Engine.IO protocol 4 (packets).
"""

import base64
from typing import Final

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSING: Final = 0x8
PINGING: Final = 0x9
PONGING: Final = 0xA
_FINAL: Final = 0x80


def websocket_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """An unmasked, unfragmented, uncompressed frame, as servers send it."""
    length = len(payload)
    if length < 126:
        return bytes((_FINAL | opcode, length)) + payload
    if length < 65536:
        return bytes((_FINAL | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((_FINAL | opcode, 127)) + length.to_bytes(8, "big") + payload


class Packet:
    """An outgoing Engine.IO packet. `payload` is its text with the type digit in front, or raw bytes when `binary`.

    With an `offset` it is an event that can be replayed: the offset goes as one more, last, string argument, and
    `plain_payload` is the event as it was given. A `droppable` one is left out for a client that lags behind: what it
    says is soon out of date.
    """

    __slots__ = ("_plain", "binary", "droppable", "frame", "offset", "payload", "plain_payload")

    def __init__(
        self, payload: bytes, *, binary: bool = False, droppable: bool = False, offset: bytes | None = None
    ) -> None:
        self.plain_payload = payload
        self.payload = payload if offset is None else b'%b,"%b"]' % (payload[:-1], offset)
        self.binary = binary
        self.droppable = droppable
        self.offset = offset
        self.frame = websocket_frame(self.payload, BINARY if binary else TEXT)
        self._plain: Packet | None = None

    @property
    def plain(self) -> "Packet":
        """The same event without its offset, for clients that cannot take one."""
        if self.offset is None:
            return self
        if self._plain is None:
            self._plain = Packet(self.plain_payload, droppable=self.droppable)
        return self._plain

    def for_polling(self) -> bytes:
        """The packet inside a polling payload; binary goes as base64 behind a `b`."""
        return b"b" + base64.b64encode(self.payload) if self.binary else self.payload


CLOSE: Final = Packet(b"1")
PING: Final = Packet(b"2")
NOOP: Final = Packet(b"6")
PROBE_ANSWER: Final = Packet(b"3probe")
RECORD_SEPARATOR: Final = b"\x1e"
