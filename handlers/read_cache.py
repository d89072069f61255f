"""What a node remembers of the store for a few seconds, so that hot paths pay a dictionary look-up."""

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

FRESH_SECONDS: Final = 4.0
"""How old a remembered value may be when no node can say that it has changed; with the way there below 5 s."""
ENTRIES_MAX: Final = 50_000
"""About 10 MB; whatever is pushed out is read again."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class ReadCache(Generic[Key, Value]):
    """Values by key, read by `load`, forgotten after `FRESH_SECONDS`, or at once by `forget`.

    A value that was being read while something was forgotten is returned, but not remembered: it may be the old one.
    """

    def __init__(self, load: Callable[[Key], Awaitable[Value]], now: Callable[[], float]) -> None:
        self._load = load
        self._now = now
        self._entries: dict[Key, tuple[float, Value]] = {}
        self._changes = 0

    def peek(self, key: Key) -> Value | None:
        """The remembered value, None when there is none or it is too old."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > self._now() else None

    async def get(self, key: Key) -> Value:
        """The remembered value, else the one in the store. Raises: what `load` raises."""
        remembered = self.peek(key)
        if remembered is not None:
            return remembered
        changes, fresh_until = self._changes, self._now() + FRESH_SECONDS
        value = await self._load(key)
        if changes == self._changes:
            # Taken out first: the oldest reading is to stay the first in line.
            self._entries.pop(key, None)
            self._entries[key] = (fresh_until, value)
            if len(self._entries) > ENTRIES_MAX:
                del self._entries[next(iter(self._entries))]
        return value

    def forget(self, key: Key) -> None:
        """The value has changed."""
        self._changes += 1
        self._entries.pop(key, None)
