"""How long the event loop keeps waiting what is due, sampled all the time."""

import asyncio
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 0.025
"""A block shows up to so much shorter than it was; forty timers a second are about 0.05 % of a core."""


class LoopLag:
    """One timer that tells `observe` by how many seconds it was late."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to sample."""
        self._due = self._loop.time() + INTERVAL_SECONDS
        self._timer = self._loop.call_at(self._due, self._sample)

    def stop(self) -> None:
        """Sample no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sample(self) -> None:
        self._observe(max(0.0, self._loop.time() - self._due))
        self.start()
