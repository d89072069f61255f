"""Which nodes live, as the heartbeats in Redis show it. Pure: the caller brings the time.

A node that has just started speaks before a heartbeat of ours can show it: for a moment its word is enough.
"""

from collections.abc import Mapping
from typing import Final

LIFE_SECONDS: Final = 15.0
"""How long a node lives after a heartbeat. With the heartbeat after it, a dead one is found out well within 30 s."""
HEARD_SECONDS: Final = 10.0
"""How long a node lives by its word alone; shorter than a node's life, so that it does not prolong it."""
GONE_MAX: Final = 1_000
"""Dead nodes of which it is remembered when they last lived."""


class Nodes:
    """The nodes of the cluster. `now` is in seconds of a monotonic clock, all other times in ms by Redis's clock."""

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._live: frozenset[str] = frozenset()
        self._deaths: dict[str, int] = {}
        self._heard: dict[str, float] = {}
        self._gone: dict[str, int] = {}

    def lives(self, node_id: str, now: float) -> bool:
        """Whether a node's word counts."""
        if node_id == self._own_id or node_id in self._live:
            return True
        return self._heard.get(node_id, -HEARD_SECONDS) > now - HEARD_SECONDS

    def last_lived(self, node_id: str) -> int | None:
        """When a dead node last lived, if that is known."""
        return self._gone.get(node_id)

    def heard(self, node_id: str, now: float) -> None:
        """A node has spoken."""
        if node_id not in self._live:
            self._heard[node_id] = now

    def shown(self, deaths: Mapping[str, int], redis_now: int, now: float) -> bool:
        """A heartbeat has shown when each node is to be taken for dead. Returns whether any has come or gone.

        A node that is missing before its time has not died: Redis has lost it, until its next heartbeat.
        """
        before = self._deaths
        self._deaths = {node: death for node, death in before.items() if death >= redis_now} | dict(deaths)
        live = frozenset(node for node, death in self._deaths.items() if death >= redis_now)
        for node in self._live - live:
            self._gone[node] = deaths.get(node, before.get(node, redis_now)) - int(LIFE_SECONDS * 1000)
        while len(self._gone) > GONE_MAX:
            del self._gone[next(iter(self._gone))]
        self._heard = {n: at for n, at in self._heard.items() if n not in live and at > now - HEARD_SECONDS}
        changed, self._live = live != self._live, live
        return changed

    def lost(self) -> bool:
        """Nothing is known of the others any more. Returns whether any counted until now."""
        changed, self._live = bool(self._live), frozenset()
        self._heard.clear()
        return changed
