"""Redis's clock, estimated: what all nodes stamp with, so that their stamps compare. Pure."""

import time
from collections.abc import Callable


class RedisClock:
    """A monotonic clock and its distance to Redis's; to our own time of day until Redis was reached."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._distance = (wall() - monotonic()) * 1000
        self._sampled = False

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._monotonic() * 1000 + self._distance)

    def monotonic(self) -> float:
        """Seconds, to be kept for `sample`."""
        return self._monotonic()

    def sample(self, asked: float, redis_ms: float) -> None:
        """Redis has said `redis_ms` at some time between `asked` and now.

        That bounds the distance from both sides; the estimate moves only when it lies outside, so that a slow answer
        changes nothing and a drift, or a new Redis, is followed.
        """
        least, most = redis_ms - self._monotonic() * 1000, redis_ms - asked * 1000
        if not self._sampled:
            self._sampled, self._distance = True, (least + most) / 2
        self._distance = min(max(self._distance, least), most)
