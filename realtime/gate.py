"""The gate of one room on one node: a stream with numbers leaves it strictly ascending, each number once.

Lower numbers are dropped, later ones wait until the missing have come; who owns the gate fetches what does not come.
What has no number of its own but is about one goes behind that number.
Pure: no clock, no I/O.
"""

from typing import Generic, TypeVar

T = TypeVar("T")
MAX_WAITING = 1_000
"""Items held back in one room; beyond it they are dropped, to be fetched from the store with the rest of the gap."""


class Gate(Generic[T]):
    """The numbers that a room's local members have been sent: all up to `last`, or none known yet (None)."""

    __slots__ = ("_behind", "_waiting", "highest", "last")

    def __init__(self) -> None:
        self.last: int | None = None
        self.highest = 0
        self._waiting: dict[int, T] = {}
        self._behind: list[tuple[int, T]] = []

    def start(self, last: int) -> list[T]:
        """Say where the stream stands. Returns what was held back and may go now; a second start changes nothing."""
        if self.last is None:
            self.last = last
            self._waiting = {seq: item for seq, item in self._waiting.items() if seq > last}
        return [*self._release_behind(), *self._release()]

    def offer(self, seq: int, item: T) -> list[T]:
        """Bring one item. Returns the items that may go now, in order."""
        if self.last is not None:
            if seq <= self.last:
                return []
            if seq == self.last + 1:
                self.last = seq
                return [item, *self._release_behind(), *self._release()]
        self.highest = max(self.highest, seq)
        if len(self._waiting) < MAX_WAITING:
            self._waiting.setdefault(seq, item)
        return self._release()

    def offer_behind(self, seq: int, item: T) -> list[T]:
        """Bring one item that is about number `seq`. Returns it, unless that number has not gone yet: then it waits."""
        if self.last is not None and seq <= self.last:
            return [item]
        # There is such a number: if it does not come it is missing.
        self.highest = max(self.highest, seq)
        if len(self._behind) < MAX_WAITING:
            self._behind.append((seq, item))
        return []

    @property
    def has_gap(self) -> bool:
        """Whether something is held back, so that something is missing."""
        return self.last is not None and self.highest > self.last

    def _release(self) -> list[T]:
        ready: list[T] = []
        while self.last is not None and (item := self._waiting.pop(self.last + 1, None)) is not None:
            self.last += 1
            ready += [item, *self._release_behind()]
        return ready

    def _release_behind(self) -> list[T]:
        if not self._behind or self.last is None:
            return []
        last = self.last
        ready = [item for seq, item in self._behind if seq <= last]
        self._behind = [(seq, item) for seq, item in self._behind if seq > last]
        return ready
