"""When a node must not send offsets: an offset says that the client has all that was said before it.

While something may have been said that has not arrived here, events go without: the client's offset stays at what was
certain, so that it is replayed more when it comes back, and misses nothing.
"""

import asyncio
from typing import Final

from realtime.cluster import Cluster
from realtime.manager import Manager
from realtime.offsets import stamped_ms

LATE_SECONDS: Final = 0.75
"""The bus is in time when what it brings is younger, and it was heard so lately; nodes are heard every half second.
With what the nodes' clocks differ by it must stay below realtime.replay.SLACK_MS."""
DOUBT_SECONDS: Final = 3.0
"""How long a doubt lasts: what is late is followed by more of it, and a gap must be healed."""


class Doubt:
    """Sets the manager's `in_doubt`, whenever an event is made or has come."""

    def __init__(self, manager: Manager, cluster: Cluster) -> None:
        self._manager = manager
        self._cluster = cluster
        self._now = asyncio.get_running_loop().time
        self._until = 0.0

    def arrived(self, offset: bytes | None) -> None:
        """The bus has brought an event."""
        if offset is not None and self._cluster.now_ms() - stamped_ms(offset) > LATE_SECONDS * 1000:
            self.begin()
        elif self._manager.in_doubt:
            self._look()

    def begin(self) -> None:
        """Something may have been missed; say so again while it is being found."""
        self._until = self._now() + DOUBT_SECONDS
        self._manager.in_doubt = True

    def stamp_ms(self) -> int:
        """The time for an offset that is made now."""
        self._look()
        return self._cluster.now_ms()

    def _look(self) -> None:
        now = self._now()
        is_heard = self._cluster.hears_all and now - self._cluster.heard_at < LATE_SECONDS
        self._manager.in_doubt = now < self._until or not is_heard
