"""Which rooms are too large for everybody in them to be told what everybody else has read."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from storage.members import MemberStore

TOLD_MAX: Final = 100
"""Members up to which receipts are told to the room: each of n members tells n others."""
FRESH_SECONDS: Final = 10.0
"""A room that grows past the limit is told of a little longer."""
ROOMS_MAX: Final = 20_000
"""Counts kept, about 4 MB."""


class RoomSizes:
    """Member counts, remembered for a few seconds. `now` gives monotonic seconds. Raises: the store's errors."""

    def __init__(self, members: MemberStore, now: Callable[[], float]) -> None:
        self._members = members
        self._now = now
        self._counts: dict[str, tuple[float, int]] = {}

    async def small(self, room_ids: Iterable[str]) -> set[str]:
        """Those of these rooms whose members are told of each other's receipts."""
        wanted, now = set(room_ids), self._now()
        missing = [room_id for room_id in wanted if self._counts.get(room_id, (0.0, 0))[0] <= now]
        counts = await asyncio.gather(*(self._members.count(room_id) for room_id in missing))
        fresh = dict(zip(missing, counts, strict=True))
        sizes = {room_id: fresh[room_id] if room_id in fresh else self._counts[room_id][1] for room_id in wanted}
        for room_id, count in fresh.items():
            # Taken out first, so that the oldest counts are the first in line.
            self._counts.pop(room_id, None)
            self._counts[room_id] = (now + FRESH_SECONDS, count)
        while len(self._counts) > ROOMS_MAX:
            del self._counts[next(iter(self._counts))]
        return {room_id for room_id, size in sizes.items() if size <= TOLD_MAX}
