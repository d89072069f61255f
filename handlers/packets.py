"""Server events as packets for sockets."""

from protocol.events import ServerEvent
from realtime.frames import Packet
from realtime.manager import event_packet


def server_packet(event: ServerEvent) -> Packet:
    """An event, encoded once for all who get it."""
    return event_packet(event.wire_name, event.wire_json(), droppable=event.droppable)
