"""Rooms as lists show them, remembered while they are open on this node, so that a list of rooms need not read them.

What changes a room is told to it, and forgets it here; so does what may have been lost. Only for what lists show: who
has opened a direct room changes without a word.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
        if missing:
            with self.reading(missing) as keep:
                read = await self._rooms.get_many(missing)
                for record in read.values():
                    keep(record)
            found |= read
        return found

    @contextmanager
    def reading(self, room_ids: Sequence[str]) -> Iterator[Callable[[RoomRecord], None]]:
        """Around a reading of these rooms from the store: gives what remembers a record that was read.

        What is forgotten meanwhile may have been read as it was, and is not remembered.
        """
        certain = self._delivery.certain(room_ids)
        forgotten: set[str] = set()

        def keep(record: RoomRecord) -> None:
            if record.id in certain and record.id not in forgotten:
                self._records[record.id] = record
                if len(self._records) > ROOMS_MAX:
                    self._records.popitem(last=False)

        self._readings.append(forgotten)
        try:
            yield keep
        finally:
            self._readings = [other for other in self._readings if other is not forgotten]

    def _forget(self, room_id: str) -> None:
        self._records.pop(room_id, None)
        for forgotten in self._readings:
            forgotten.add(room_id)

    def _heard(self, name: str, payload: bytes) -> None:
        """An event goes to a room's members."""
        if payload.startswith(_UPDATED):
            self._forget(name.removeprefix("room:"))
