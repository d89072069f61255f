"""Garbage collection that does not stop the loop: what has survived a full collection is not looked through again.

CPython's full collections go through all that lives, and with ten thousand connections that took half a second, every
other second. Objects that have survived one are frozen instead, so that a full collection costs what has come since
the last one. What dies later goes by its reference count, as sessions and sockets do; of frozen objects that refer to
each other only a thaw finds out that they are dead.
"""

import gc
from collections.abc import Callable
from typing import Any, Final

THRESHOLDS: Final = (5_000, 2, 2)
"""Next to nothing here is in cycles, and looking for them after every 700 objects took 9 % of a busy server's time;
45,000 new objects, which is when a full collection looks through them, take it 50 ms."""
DEAD_MAX: Final = 100_000
"""Sessions that may have ended since the last thaw, if there are not more alive. Those of websockets leave nothing
behind; the full collection that follows a thaw looks through everything once, and stops the loop meanwhile."""


class Garbage:
    """The collector's policy while the server runs. `ended` counts sessions since the start, `alive` those of now."""

    def __init__(self, ended: Callable[[], int], alive: Callable[[], int]) -> None:
        self._ended = ended
        self._alive = alive
        self._thawed_at = 0
        self._thresholds = gc.get_threshold()

    def start(self) -> None:
        """Freeze what is there, and from now on what survives."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(self._collected)

    def stop(self) -> None:
        """Leave the collector as it was."""
        gc.callbacks.remove(self._collected)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase != "stop" or info["generation"] != 2:
            return
        if self._ended() - self._thawed_at > max(DEAD_MAX, self._alive()):
            self._thawed_at = self._ended()
            gc.unfreeze()
        else:
            gc.freeze()
