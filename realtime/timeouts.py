"""Many waits of the same length, by one tick of the process's monotonic clock instead of a timer each.

Waits of one length end in the order they began, so a queue for each length is a timing wheel without slots: beginning,
ending and passing one costs the same however many there are.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

TICK_SECONDS: Final = 0.05
"""How late a wait may be noticed to be over."""

Item = TypeVar("Item")


class Timeout(Generic[Item]):
    """Items that are waited for, `seconds` each: then `expired(item)` is told, synchronously; it must not raise."""

    __slots__ = ("_due", "_expired", "_seconds", "_timeouts")

    def __init__(self, timeouts: "Timeouts", seconds: float, expired: Callable[[Item], None]) -> None:
        self._timeouts = timeouts
        self._seconds = seconds
        self._expired = expired
        self._due: dict[Item, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def begin(self, item: Item) -> None:
        """Begin to wait, or begin anew."""
        self._due.pop(item, None)
        self._due[item] = self._timeouts.now() + self._seconds
        self._timeouts.keep_ticking()

    def end(self, item: Item) -> None:
        """What was waited for has come; again is no error."""
        self._due.pop(item, None)

    def expire(self, now: float) -> None:
        """Give up what is due."""
        over = []
        for item, due in self._due.items():
            if due > now:
                break
            over.append(item)
        for item in over:
            # One that expires may end another.
            if self._due.pop(item, None) is not None:
                self._expired(item)


class Timeouts:
    """The tick that all timeouts of a server share; it rests while nothing is waited for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._all: list[Timeout[Any]] = []
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    def after(self, seconds: float, expired: Callable[[Item], None]) -> Timeout[Item]:
        """Waits of this length."""
        timeout = Timeout(self, seconds, expired)
        self._all.append(timeout)
        return timeout

    def keep_ticking(self) -> None:
        """Something is waited for."""
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.now()
        for timeout in self._all:
            timeout.expire(now)
        if any(self._all):
            self.keep_ticking()
