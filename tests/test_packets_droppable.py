"""Which events a client that does not keep up may go without, here and by the bus."""

import msgpack
import pytest

from handlers.packets import server_packet
from protocol.events import ServerEvent, TypingStopped, UnreadUpdated, UserOffline
from realtime.envelope import Frame, pack_frame

DROPPABLE = {
    "message:delivered", "message:read", "typing:start", "typing:stop", "user:online", "user:status", "user:offline",
}  # fmt: skip


def test_only_typing_presence_and_receipts_are_droppable() -> None:
    """Nothing that the contract promises to deliver is among them."""
    assert {event.wire_name for event in ServerEvent.__subclasses__() if event.droppable} == DROPPABLE


@pytest.mark.parametrize(
    "event",
    [
        TypingStopped(room_id="r", user_id="u"),
        UserOffline(user_id="u", last_seen=None),
        UnreadUpdated(room_id="r", unread=1, mentions=0, total_unread=1),
    ],
)
def test_a_packet_keeps_its_class_on_the_bus(event: ServerEvent) -> None:
    """What another node has made is dropped here if it could have been dropped there."""
    packet = server_packet(event)
    assert packet.droppable is event.droppable
    frame = Frame(*msgpack.unpackb(pack_frame(packet, None, None, None)))
    assert frame.droppable is packet.droppable
