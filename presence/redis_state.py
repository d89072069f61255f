"""What Redis holds of presence, and the atomic operations on it: one Lua script each.

    {P}:nodes        sorted set: node id → the time (ms, Redis's clock) at which it counts as dead
    {P}:node:<node>  set: the users that this node has reported
    {P}:user:<user>  hash: node id → "status devices version"; `seen` → ms since the epoch

P is the prefix and `:presence`; the braces are a hash tag, so that in a cluster one script reaches all of it.
A node renews one entry, whatever the number of its users; a report counts only while its node lives.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from presence.nodes import LIFE_SECONDS
from presence.state import Report
from protocol.types import PresenceStatus

SEEN_SECONDS: Final = 120.0
"""How long Redis knows when somebody was last seen: until MongoDB does, which is told once a minute."""
SWEEP_USERS: Final = 500
"""Users of a dead node withdrawn at a time; Redis serves nobody else meanwhile."""
_SEEN: Final = "seen"


class Beat(NamedTuple):
    """What a heartbeat brings: whether others took us for dead, and each node's time of death, by Redis's clock."""

    lapsed: bool
    now: int
    deaths: dict[str, int]


class Stored(NamedTuple):
    """What Redis knows of one user."""

    reports: dict[str, Report]
    seen: int | None


class RedisState:
    """On a client that decodes, and is closed with it. Raises: RedisError, OSError or TimeoutError when it is away."""

    def __init__(self, redis: "Redis", prefix: str, node_id: str) -> None:
        self._redis = redis
        self._node_id = node_id
        self._nodes = f"{{{prefix}:presence}}:nodes"
        self._node = f"{{{prefix}:presence}}:node:"
        self._user = f"{{{prefix}:presence}}:user:"
        self._heartbeat = self._script("heartbeat")
        self._report = self._script("report")
        self._sweep = self._script("sweep")

    def _script(self, name: str) -> Any:
        return self._redis.register_script(Path(__file__).with_name(f"{name}.lua").read_text())

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def beat(self, life_seconds: float = LIFE_SECONDS) -> Beat:
        """Live on for so long."""
        lapsed, now, nodes = await self._heartbeat([self._nodes], [self._node_id, int(life_seconds * 1000)])
        deaths = {node: int(float(death)) for node, death in zip(nodes[::2], nodes[1::2], strict=True)}
        return Beat(bool(lapsed), now, deaths)

    async def report(self, reports: Mapping[str, Report]) -> None:
        """Keep this node's word on these users."""
        arguments: list[Any] = [self._node_id, self._user, int(SEEN_SECONDS * 1000)]
        for user_id, report in reports.items():
            value = f"{report.status.value} {report.devices} {report.version}" if report.devices else ""
            arguments += [user_id, value, "" if report.seen is None else report.seen]
        await self._report([self._node + self._node_id], arguments)

    async def sweep(self) -> dict[str, int] | None:
        """Withdraw reports of a dead node. Returns when its visible users were last seen; None when no node is dead."""
        arguments = [self._node, self._user, int(LIFE_SECONDS * 1000), int(SEEN_SECONDS * 1000), SWEEP_USERS]
        found = await self._sweep([self._nodes], arguments)
        return dict.fromkeys(found[2], int(found[1])) if found else None

    async def read(self, user_ids: Sequence[str]) -> dict[str, Stored]:
        """What is known of these users, in one round trip."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for user_id in user_ids:
                pipeline.hgetall(self._user + user_id)
            found = await pipeline.execute()
        return {user_id: _stored(fields) for user_id, fields in zip(user_ids, found, strict=True)}


def _stored(fields: Mapping[str, str]) -> Stored:
    seen = fields.get(_SEEN)
    reports = {node: _parse(value) for node, value in fields.items() if node != _SEEN}
    return Stored(reports, None if seen is None else int(seen))


def _parse(value: str) -> Report:
    status, devices, version = value.split()
    return Report(PresenceStatus(status), int(devices), int(version))
