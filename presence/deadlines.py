"""Keys that come due, and the one timer that all of them share."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Generic, TypeVar

STALE_MAX: Final = 64
"""Replaced entries that may stay in the heap before it is made anew; beyond it, as many as there are live ones."""

Key = TypeVar("Key")


class Deadlines(Generic[Key]):
    """Times by key, in seconds of whatever clock the caller has; a key has one. Pure."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._number = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def set(self, key: Key, due: float) -> None:
        """Have a key come due then, and not when it would have before."""
        self._due[key] = due
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, key))
        if len(self._heap) > 2 * len(self._due) + STALE_MAX:
            self._heap = [(due, number, key) for number, (key, due) in enumerate(self._due.items())]
            self._number = len(self._heap)
            heapq.heapify(self._heap)

    def drop(self, key: Key) -> None:
        """Have a key come due no more."""
        self._due.pop(key, None)

    def next(self) -> float | None:
        """When the first key comes due; None without keys."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float, at_most: int | None = None) -> list[Key]:
        """Take out the keys that are due, or so many of them, the earliest first."""
        keys: list[Key] = []
        while len(keys) != at_most and (due := self.next()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            keys.append(key)
        return keys


class Alarm:
    """Calls `ring` when it is time, on the running loop's clock. A time that has been set stays until it rings."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float | None) -> None:
        """Ring then, or at the time set before, whichever comes first; None changes nothing."""
        if due is None or (self._timer is not None and self._at <= due):
            return
        self.stop()
        # Kept here: uvloop gives a time that is past a handle that does not know it.
        self._at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._due)

    def stop(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._ring()
