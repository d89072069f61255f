"""A token bucket."""


class Rate:
    """So many a second, and as many at once. Pure: the time comes with the question."""

    __slots__ = ("_at", "_left", "_per_second")

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one, if one is left. `now` in monotonic seconds."""
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
