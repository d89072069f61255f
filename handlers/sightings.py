"""What a node knows of users anywhere: the reports of all nodes, and when they were last seen."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgpack

from presence.state import Presence, Report, latest, present, update
from presence.tracker import Tracker
from protocol.types import PresenceStatus
from storage.last_seen import LastSeenStore


@dataclass(slots=True)
class Sighting:
    """One user: the other nodes' reports, by node, when each was heard on the bus, and the last time seen if known."""

    reports: dict[str, Report] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    seen: int | None = None

    def note_seen(self, moment: int | None) -> None:
        """They were seen then."""
        self.seen = latest([self.seen, moment])


class Sightings:
    """Reads and reckons. This node's own word comes from the tracker at once, the others' from Redis and the bus."""

    def __init__(self, tracker: Tracker, last_seen: LastSeenStore) -> None:
        self._tracker = tracker
        self._last_seen = last_seen
        self._now = asyncio.get_running_loop().time

    def present(self, user_id: str, sighting: Sighting) -> Presence:
        """How a user looks now, by the word of the nodes that live."""
        here, local = self._tracker.node_id, self._tracker.local(user_id)
        # Of this node's own word only the latest counts, not what it has said to Redis.
        reports = [report for node, report in sighting.reports.items() if node != here and self._tracker.lives(node)]
        if local is not None:
            reports.append(local)
        return present(reports, sighting.seen)

    async def read(self, sightings: Mapping[str, Sighting]) -> None:
        """Bring these up to what Redis and MongoDB say, by user. Raises: the store's errors; a Redis away is none."""
        if not sightings:
            return
        began = self._now()
        stored, seen = await asyncio.gather(self._tracker.read(sightings), self._last_seen.read(list(sightings)))
        for user_id, sighting in sightings.items():
            if user_id in seen:
                sighting.note_seen(milliseconds(seen[user_id]))
            if stored is not None:
                sighting.note_seen(stored[user_id].seen)
                since = [node for node, at in sighting.heard.items() if at >= began]
                sighting.reports = update(sighting.reports, stored[user_id].reports, since)
                sighting.heard = {node: at for node, at in sighting.heard.items() if node in sighting.reports}

    async def look(self, user_ids: Collection[str]) -> dict[str, Presence]:
        """How these users look, by user. Raises: the store's errors."""
        sightings = {user_id: Sighting() for user_id in user_ids}
        await self.read(sightings)
        return {user_id: self.present(user_id, sighting) for user_id, sighting in sightings.items()}

    def hear(self, sighting: Sighting | None, payload: bytes) -> bool:
        """Take another node's report, as `pack` wrote it. Returns whether it is news for this sighting."""
        node, status, devices, version, seen = msgpack.unpackb(payload)
        self._tracker.heard(node)
        known = None if sighting is None else sighting.reports.get(node)
        if sighting is None or (known is not None and version < known.version):
            return False
        sighting.reports[node] = Report(PresenceStatus(status), devices, version, seen)
        sighting.heard[node] = self._now()
        sighting.note_seen(seen)
        return True

    def pack(self, report: Report) -> bytes:
        """This node's report, for the bus."""
        payload: bytes = msgpack.packb([self._tracker.node_id, report.status.value, *report[1:]])
        return payload

    def forget_dead(self, sighting: Sighting) -> None:
        """Drop the reports of nodes that are no more, but for when they last lived."""
        for node in [node for node in sighting.reports if not self._tracker.lives(node)]:
            report = sighting.reports.pop(node)
            sighting.heard.pop(node, None)
            if report.devices and report.status is not PresenceStatus.INVISIBLE:
                sighting.note_seen(self._tracker.last_lived(node))


def moment(milliseconds: int | None) -> datetime | None:
    """A time from milliseconds since the epoch."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch."""
    return round(moment.timestamp() * 1000)
