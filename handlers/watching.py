"""Tells watchers who comes and goes: each node for its own sessions, out of what all nodes report.

A session that watches somebody is in the realtime room `presence:{userId}`, and its node listens to that channel; the
nodes where the user has devices publish their reports there once Redis has them. A burst of changes is one event a
second, the difference between what watchers know and what is.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from handlers.packets import server_packet
from handlers.sightings import Sighting, Sightings, moment
from presence.deadlines import Alarm, Deadlines
from presence.state import OFFLINE, Presence, Report, diff
from presence.tracker import Tracker
from protocol.events import ServerEvent, UserOffline, UserOnline, UserStatusChanged
from realtime.cluster import Cluster
from realtime.frames import Packet
from realtime.manager import Manager, Session

KIND: Final = "presence"
WATCHES_MAX: Final = 2_000
"""Users that one session watches, the other sides of its direct rooms included; each costs it about 200 bytes."""
TELL_SECONDS: Final = 1.2
"""Between two events about a user to a watcher: a second at least where they arrive, one of them late, one not."""
REWRITE_SECONDS: Final = 2.0
"""After a gap nodes that were without Redis as well write again what it may have lost; then it can be read."""
TOLD_AT_ONCE: Final = 5_000
"""Watchers told before the loop may do something else; one costs it 1 µs."""
SLICE: Final = 500
"""Watched users looked at before the loop may do something else."""
PACKET_START: Final = b"4"
"""A packet for clients starts so (Engine.IO: message), a report never does."""

log = structlog.get_logger()


@dataclass(slots=True)
class Watched:
    """A user whom sessions of this node watch: what is known, and what the watchers know.

    Until `ready` nothing is known and nothing told. After a `snapshot` that was ahead of the others all are told.
    """

    name: str
    sighting: Sighting = field(default_factory=Sighting)
    shown: Presence = OFFLINE
    told_at: float = -TELL_SECONDS
    snapshot: bool = False
    ready: bool = False


class Watching:
    """The watched users of this node. Whether a watcher may know is asked before, by whoever lets them watch."""

    def __init__(self, manager: Manager, cluster: Cluster, tracker: Tracker, sightings: Sightings) -> None:
        self._manager = manager
        self._cluster = cluster
        self._sightings = sightings
        self._watched: dict[str, Watched] = {}
        self._due: Deadlines[str] = Deadlines()
        self._alarm = Alarm(self._tell_due)
        self._now = asyncio.get_running_loop().time
        self._missed: dict[str, None] = {}
        self._nodes_changed = False
        self._renewing: asyncio.Task[None] | None = None
        tracker.on_report = self._reported
        tracker.on_written = self._publish
        tracker.on_nodes = self._look_at_all
        self.on_missed: Callable[[Sequence[str]], None] = lambda user_ids: None

    async def close(self) -> None:
        """Tell nothing more."""
        self._alarm.stop()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    # --- watching -------------------------------------------------------------------------------------------------

    def watched_by(self, session_id: str) -> list[str]:
        """Whom a session watches."""
        session = self._manager.sessions.get(session_id)
        names = () if session is None else session.rooms
        return [name.removeprefix("presence:") for name in names if name.startswith("presence:")]

    def watchers(self, user_id: str) -> list[Session]:
        """The sessions of this node that watch a user."""
        return list(self._manager.members(presence_name(user_id)))

    async def watch(self, session_id: str, user_ids: Collection[str]) -> dict[str, Presence]:
        """Have a session told of changes from now on. Returns how things stand, by user. Raises: the store's errors."""
        session = self._manager.sessions.get(session_id)
        if session is None:
            return dict.fromkeys(user_ids, OFFLINE)
        for user_id in user_ids:
            watched = self._watched.get(user_id)
            if watched is None:
                watched = self._watched[user_id] = Watched(presence_name(user_id))
            # One name for all watchers: they are half a million where each of ten thousand has fifty.
            self._manager.enter(session, watched.name)
        unready = [user_id for user_id in user_ids if not self._watched[user_id].ready]
        await self._cluster.joined([presence_name(user_id) for user_id in unready])
        await self._renew(unready)
        return {user_id: self._snapshot(user_id) for user_id in user_ids}

    def unwatch(self, session_id: str, user_ids: Iterable[str]) -> None:
        """Tell a session of these users no longer."""
        session = self._manager.sessions.get(session_id)
        if session is not None:
            for user_id in user_ids:
                self._manager.leave(session, presence_name(user_id))

    async def look(self, user_ids: Collection[str]) -> dict[str, Presence]:
        """How things stand, by user; what is watched is known already. Raises: the store's errors."""
        known = {user_id: self._current(user_id) for user_id in user_ids if self._is_ready(user_id)}
        return known | await self._sightings.look([user_id for user_id in user_ids if user_id not in known])

    def _is_ready(self, user_id: str) -> bool:
        watched = self._watched.get(user_id)
        return watched is not None and watched.ready

    def _current(self, user_id: str) -> Presence:
        return self._sightings.present(user_id, self._watched[user_id].sighting)

    def _snapshot(self, user_id: str) -> Presence:
        """What is now, which may be ahead of what other watchers have been told; all are told the same next."""
        watched = self._watched.get(user_id)
        if watched is None:
            return OFFLINE
        if user_id in self._due:
            watched.snapshot = True
        return self._current(user_id)

    # --- what comes in --------------------------------------------------------------------------------------------

    def heard(self, key: str, payload: bytes) -> None:
        """Another node has published something on a user's channel: a report, or an event for the watchers."""
        if payload.startswith(PACKET_START):
            self._manager.broadcast(presence_name(key), Packet(payload, droppable=True))
            return
        watched = self._watched.get(key)
        if self._sightings.hear(watched.sighting if watched is not None else None, payload):
            self._consider(key)

    def emptied(self, key: str) -> None:
        """Nobody here watches this user any more."""
        self._watched.pop(key, None)
        self._due.drop(key)

    def missed(self, keys: Sequence[str]) -> None:
        """Reports may have been lost: read them again."""
        self._missed.update(dict.fromkeys(keys))
        self.on_missed(keys)
        self._start_renewing()

    def _reported(self, user_id: str, report: Report) -> None:
        """This node's own devices have changed."""
        watched = self._watched.get(user_id)
        if watched is not None:
            watched.sighting.note_seen(report.seen)
            self._consider(user_id)

    def _publish(self, user_id: str, report: Report) -> None:
        """Redis has it: the other nodes may know."""
        self._cluster.publish(presence_name(user_id), None, Packet(self._sightings.pack(report)))

    # --- looking again --------------------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        """Nodes have come or gone."""
        self._nodes_changed = True
        self._start_renewing()

    def _start_renewing(self) -> None:
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew_all())

    async def _renew_all(self) -> None:
        try:
            while self._missed or self._nodes_changed:
                if self._nodes_changed:
                    self._nodes_changed = False
                    await self._forget_dead()
                if self._missed:
                    await asyncio.sleep(REWRITE_SECONDS)
                missed, self._missed = self._missed, {}
                for user_ids in _slices(list(missed)):
                    await self._renew_patiently(user_ids)
        finally:
            self._renewing = None

    async def _forget_dead(self) -> None:
        for user_ids in _slices(list(self._watched)):
            for user_id in user_ids:
                if user_id in self._watched:
                    self._sightings.forget_dead(self._watched[user_id].sighting)
                    self._consider(user_id)
            await asyncio.sleep(0)

    async def _renew_patiently(self, user_ids: Sequence[str]) -> None:
        try:
            await self._renew(user_ids)
        except Exception as error:
            log.warning("presence not read", users=len(user_ids), reason=type(error).__name__)
            self._missed.update(dict.fromkeys(user_ids))

    async def _renew(self, user_ids: Sequence[str]) -> None:
        """Read all over what is known of watched users. Raises: the store's errors."""
        entries = {user_id: self._watched[user_id] for user_id in user_ids if user_id in self._watched}
        await self._sightings.read({user_id: watched.sighting for user_id, watched in entries.items()})
        for user_id, watched in entries.items():
            # Not one that was begun anew meanwhile.
            if self._watched.get(user_id) is not watched:
                continue
            if watched.ready:
                self._consider(user_id)
            else:
                # Whoever watches by now gets this as a snapshot.
                watched.ready, watched.shown = True, self._current(user_id)

    # --- telling --------------------------------------------------------------------------------------------------

    def _consider(self, user_id: str) -> None:
        """Have the watchers of a user told what has changed: next, or when a second is over."""
        watched = self._watched[user_id]
        if not watched.ready or user_id in self._due:
            return
        if diff(watched.shown, self._current(user_id)) is not None:
            self._due.set(user_id, max(self._now(), watched.told_at + TELL_SECONDS))
            self._alarm.set(self._due.next())

    def _tell_due(self) -> None:
        told = 0
        while told < TOLD_AT_ONCE and (due := self._due.pop(self._now(), 1)):
            told += 1 + self._tell(due[0], self._watched[due[0]])
        self._alarm.set(self._due.next())

    def _tell(self, user_id: str, watched: Watched) -> int:
        """Tell the watchers of a user what has changed, if anything has. Returns how many were told."""
        told, now = 0, self._current(user_id)
        change = diff(watched.shown, now)
        if change is not None or watched.snapshot:
            told = self._manager.broadcast(watched.name, presence_packet(user_id, now, is_new=change == "online"))
            watched.told_at = self._now()
        watched.shown, watched.snapshot = now, False
        return told

    def tell_watchers(self, user_id: str, event: ServerEvent) -> None:
        """Send an event to a user's watchers on all nodes. Never waits."""
        packet = server_packet(event)
        self._manager.broadcast(presence_name(user_id), packet)
        self._cluster.publish(presence_name(user_id), None, packet)


def presence_packet(user_id: str, presence: Presence, *, is_new: bool) -> Packet:
    """What a watcher is told of a user who looks like this now."""
    event: ServerEvent
    if presence.status == "offline":
        event = UserOffline(user_id=user_id, last_seen=moment(presence.last_seen))
    elif is_new:
        event = UserOnline(user_id=user_id, status=presence.status)
    else:
        event = UserStatusChanged(user_id=user_id, status=presence.status)
    return server_packet(event)


def presence_name(user_id: str) -> str:
    """The realtime layer's name of those who watch a user."""
    return f"presence:{user_id}"


def _slices(user_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(user_ids), SLICE):
        yield user_ids[start : start + SLICE]
