"""Rooms as lists show them, remembered while they are open on this node, so that a list of rooms need not read them.

What changes a room is told to it, and forgets it here; so does what may have been lost. Only for what lists show: who
has opened a direct room changes without a word.
"""

from collections import OrderedDict
from collections.abc import Container, Sequence
from typing import Final

from handlers.delivery import Delivery
from handlers.fanout import Fanout
from storage.rooms import RoomRecord, RoomStore

ROOMS_MAX: Final = 50_000
"""Some 50 MB; the one that was asked for least lately goes first."""
_UPDATED: Final = b'42["room:updated",'


class RoomRecords:
    """A few seconds or days old, but as the room is now. Raises: the store's errors."""

    def __init__(self, rooms: RoomStore, delivery: Delivery, fanout: Fanout) -> None:
        self._rooms = rooms
        self._delivery = delivery
        self._records: OrderedDict[str, RoomRecord] = OrderedDict()
        self._readings: list[set[str]] = []
        delivery.on_doubt.append(self._forget)
        fanout.on_event = self._heard

    async def get_many(self, room_ids: Sequence[str]) -> dict[str, RoomRecord]:
        """These rooms, those that exist."""
        certain = self._delivery.certain(room_ids)
        found = {room_id: record for room_id in certain if (record := self._records.get(room_id)) is not None}
        for room_id in found:
            self._records.move_to_end(room_id)
        missing = [room_id for room_id in room_ids if room_id not in found]
        return found | await self._read(missing, certain) if missing else found

    async def _read(self, room_ids: Sequence[str], certain: Container[str]) -> dict[str, RoomRecord]:
        """From the store; what is forgotten meanwhile may be read as it was, and is not kept."""
        forgotten: set[str] = set()
        self._readings.append(forgotten)
        try:
            read = await self._rooms.get_many(room_ids)
        finally:
            self._readings = [other for other in self._readings if other is not forgotten]
        kept = {room_id: record for room_id, record in read.items() if room_id in certain and room_id not in forgotten}
        self._records.update(kept)
        while len(self._records) > ROOMS_MAX:
            self._records.popitem(last=False)
        return read

    def _forget(self, room_id: str) -> None:
        self._records.pop(room_id, None)
        for forgotten in self._readings:
            forgotten.add(room_id)

    def _heard(self, name: str, payload: bytes) -> None:
        """An event goes to a room's members."""
        if payload.startswith(_UPDATED):
            self._forget(name.removeprefix("room:"))
