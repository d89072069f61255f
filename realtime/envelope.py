"""What is said on the bus: msgpack `[version, origin node, kind, fields]`. Nothing is ever unpickled.

The origin stands at a fixed place, so that a node drops its own frames unread. A frame's fields are also, byte for
byte, its entry in the room's log.
"""

from typing import Any, Final, NamedTuple

import msgpack

from realtime.frames import Packet

VERSION: Final = 2

FRAME: Final = 0
REQUEST: Final = 1
ANSWER: Final = 2
HEAL: Final = 3
BEAT: Final = 4
BYE: Final = 5

_ARRAY_OF_FOUR: Final = b"\x94"
_pack = msgpack.Packer().pack


class Envelope(NamedTuple):
    """One that has arrived."""

    version: int
    origin: str
    kind: int
    fields: list[Any]


class Frame(NamedTuple):
    """A packet for a room: `skip` is a session that is not sent it, nor is who is in the room `unless`."""

    offset: bytes | None
    skip: str | None
    unless: str | None
    seq: int | None
    payload: bytes
    droppable: bool = False


class Envelopes:
    """Writes this node's."""

    def __init__(self, node_id: str) -> None:
        self.own: bytes = _ARRAY_OF_FOUR + msgpack.packb(VERSION) + msgpack.packb(node_id)
        self.frame_head: bytes = self.own + msgpack.packb(FRAME)

    def pack(self, kind: int, *fields: Any) -> bytes:
        """An envelope."""
        body: bytes = self.own + _pack(kind) + _pack(fields)
        return body

    def is_own_echo(self, body: bytes) -> bool:
        """Whether this is ours, and nothing that we count the answers to."""
        own = self.own
        return body.startswith(own) and body[len(own) : len(own) + 1] != b"\x01"


def unpack(body: bytes) -> Envelope:
    """Read an envelope. Raises: ValueError or TypeError for anything else; also for another version's."""
    envelope = Envelope(*msgpack.unpackb(body))
    if envelope.version != VERSION:
        raise ValueError("an envelope of another version")
    return envelope


def pack_frame(packet: Packet, seq: int | None, skip: str | None, unless: str | None) -> bytes:
    """The fields of a frame; with the envelope's head in front, one that can be sent."""
    fields: tuple[Any, ...] = (packet.offset, skip, unless, seq, packet.plain_payload)
    body: bytes = _pack((*fields, True) if packet.droppable else fields)
    return body
