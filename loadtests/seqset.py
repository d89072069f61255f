"""A set of sequence numbers, kept as spans: what a connection received of a room is mostly one span."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class SeqSet:
    """A set of integers as ascending, separate spans `(first, last)`.

    Adding in ascending order is O(1), anything else O(spans); memory is O(spans), however many numbers there are.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, seqs: Iterable[int] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for seq in seqs:
            self.add(seq)

    def add(self, seq: int) -> bool:
        """Put `seq` in; False when it was there already."""
        lasts = self._lasts
        if lasts:
            last = lasts[-1]
            if seq == last + 1:
                lasts[-1] = seq
                return True
            if seq <= last:
                return self._insert(seq)
        self._firsts.append(seq)
        lasts.append(seq)
        return True

    def _insert(self, seq: int) -> bool:
        firsts, lasts = self._firsts, self._lasts
        after = bisect_right(firsts, seq)
        if after and seq <= lasts[after - 1]:
            return False
        joins_left = after > 0 and lasts[after - 1] == seq - 1
        joins_right = after < len(firsts) and firsts[after] == seq + 1
        if joins_left and joins_right:
            lasts[after - 1] = lasts.pop(after)
            firsts.pop(after)
        elif joins_left:
            lasts[after - 1] = seq
        elif joins_right:
            firsts[after] = seq
        else:
            firsts.insert(after, seq)
            lasts.insert(after, seq)
        return True

    def spans(self) -> Iterator[tuple[int, int]]:
        """The spans, ascending, both ends included."""
        return zip(self._firsts, self._lasts, strict=True)

    def __contains__(self, seq: int) -> bool:
        after = bisect_right(self._firsts, seq)
        return after > 0 and seq <= self._lasts[after - 1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.spans():
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.spans())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeqSet) and self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SeqSet({', '.join(f'{first}-{last}' for first, last in self.spans())})"

    def _append_span(self, first: int, last: int) -> None:
        """Put a span at the end; it starts no earlier than the last one does."""
        if self._lasts and first <= self._lasts[-1] + 1:
            self._lasts[-1] = max(self._lasts[-1], last)
        else:
            self._firsts.append(first)
            self._lasts.append(last)

    def union(self, other: "SeqSet") -> "SeqSet":
        """A new set of what is in either."""
        merged = SeqSet()
        for first, last in sorted([*self.spans(), *other.spans()]):
            merged._append_span(first, last)
        return merged

    def difference(self, other: "SeqSet") -> "SeqSet":
        """A new set of what is here and not in `other`; O(spans of both)."""
        rest = SeqSet()
        holes = list(other.spans())
        at = 0
        for first, last in self.spans():
            while at < len(holes) and holes[at][1] < first:
                at += 1
            cursor, hole = first, at
            while hole < len(holes) and holes[hole][0] <= last:
                if holes[hole][0] > cursor:
                    rest._append_span(cursor, holes[hole][0] - 1)
                cursor = holes[hole][1] + 1
                hole += 1
            if cursor <= last:
                rest._append_span(cursor, last)
        return rest

    def above(self, floor: int) -> "SeqSet":
        """A new set of what is greater than `floor`."""
        rest = SeqSet()
        for first, last in self.spans():
            if last > floor:
                rest._append_span(max(first, floor + 1), last)
        return rest

    def reach(self, floor: int) -> int:
        """The number up to which nothing above `floor` is missing; `floor` when already the next one is."""
        after = bisect_right(self._firsts, floor + 1)
        return max(floor, self._lasts[after - 1]) if after else floor
