"""Server events as packets for sockets: those made here, and those that came by the bus."""

from typing import Final

from protocol.events import ServerEvent
from realtime.frames import Packet
from realtime.manager import event_packet
from realtime.packets import encode_event

_DROPPABLE_STARTS: Final = tuple(
    encode_event(event.wire_name, b"")[:-1] for event in ServerEvent.__subclasses__() if event.droppable
)
"""How their packets begin; what travels on the bus is the packet alone, and its name says what it is."""


def server_packet(event: ServerEvent) -> Packet:
    """An event, encoded once for all who get it."""
    return event_packet(event.wire_name, event.wire_json(), droppable=event.droppable)


def bus_packet(payload: bytes) -> Packet:
    """A packet that another node has made, of the class that it had there."""
    return Packet(payload, droppable=payload.startswith(_DROPPABLE_STARTS))
