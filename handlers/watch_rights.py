"""Who may see whom come and go: people who share a room, and neither of whom has blocked the other.

The other side of a direct room is watched without being asked for. Rights that end take their watches with them: at a
change that could end one, those concerned are looked at again.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import structlog

from handlers.delivery import room_name, user_name
from handlers.fanout import Fanout
from handlers.watching import WATCHES_MAX, Watching, presence_packet
from presence.state import OFFLINE
from realtime.manager import Manager
from storage.blocks import BlockStore
from storage.members import MemberStore
from storage.rooms import RoomRecord, RoomStore

PAIRS_MAX: Final = 100_000
"""Rooms of which it is remembered whether two people share them alone; about 20 MB."""
SESSIONS_AT_ONCE: Final = 256
RETRY_SECONDS: Final = 1.0
_PARTED: Final = "parted"

log = structlog.get_logger()


class WatchRights:
    """The rights of this node's sessions. One task looks at what has changed; what is lost with it comes anew.

    With `open_to_all` nobody needs to share a room.
    """

    def __init__(
        self,
        manager: Manager,
        fanout: Fanout,
        watching: Watching,
        rooms: RoomStore,
        members: MemberStore,
        blocks: BlockStore,
        *,
        open_to_all: bool,
    ) -> None:
        self._manager = manager
        self._fanout = fanout
        self._watching = watching
        self._rooms = rooms
        self._members = members
        self._blocks = blocks
        self._open_to_all = open_to_all
        self._pairs: dict[str, tuple[str, ...]] = {}
        self._entered: dict[str, set[str]] = {}
        self._doubts: dict[str, set[str]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        fanout.on_entered = self._note_entered
        fanout.on_change(_PARTED, self._note_changed)
        watching.on_missed = self._note_missed

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- rights ---------------------------------------------------------------------------------------------------

    async def visible_to(self, user_id: str, others: Collection[str]) -> set[str]:
        """Those of the others whom this user, connected here, may see. Raises: the store's errors."""
        met = set(others) if self._open_to_all else await self._met(user_id, set(others))
        strangers = met - {user_id}
        return met - await self._blocks.parted_from(user_id, strangers) if strangers else met

    async def _met(self, user_id: str, others: set[str]) -> set[str]:
        met = self._fanout.met_here(user_id, others) | (others & {user_id})
        return met | await self._members.met_in(self._fanout.rooms_of(user_id), others - met)

    async def peers_of(self, session_id: str) -> set[str]:
        """The other sides of a session's direct rooms. Raises: the store's errors."""
        session = self._manager.sessions.get(session_id)
        if session is None:
            return set()
        room_ids = [name.removeprefix("room:") for name in session.rooms if name.startswith("room:")]
        pairs = await self._pairs_of(room_ids)
        return {other for pair in pairs.values() for other in pair} - {session.data.user_id}

    async def _pairs_of(self, room_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The two people of each direct room, nobody for other rooms; neither ever changes."""
        unknown = [room_id for room_id in room_ids if room_id not in self._pairs]
        found = {}
        if unknown:
            records = await self._rooms.get_many(unknown)
            found = {room_id: record.pair for room_id, record in records.items()}
        known = {room_id: self._pairs[room_id] for room_id in room_ids if room_id in self._pairs} | found
        for room_id, pair in found.items():
            self._know(room_id, pair)
        return known

    def know(self, record: RoomRecord) -> None:
        """A room that is at hand need not be read when somebody enters it."""
        if record.id not in self._pairs:
            self._know(record.id, record.pair)

    def _know(self, room_id: str, pair: tuple[str, ...]) -> None:
        self._pairs[room_id] = pair
        if len(self._pairs) > PAIRS_MAX:
            del self._pairs[next(iter(self._pairs))]

    async def changed(self, one: str, other: str) -> None:
        """One of the two has blocked the other, or has let them in again: tell all nodes, and wait for them."""
        await self._fanout.change([user_name(one), user_name(other)], _PARTED, one, other)

    # --- what may have changed --------------------------------------------------------------------------------------

    def _note_entered(self, session_id: str, room_ids: Iterable[str]) -> None:
        # Most rooms are known not to be direct, and then there is nobody to introduce.
        room_ids = [room_id for room_id in room_ids if self._pairs.get(room_id, room_id)]
        if not room_ids:
            return
        self._entered.setdefault(session_id, set()).update(room_ids)
        self._wake.set()

    def left(self, user_id: str) -> None:
        """Somebody has left a room, and may have no other in common with those whom they saw there."""
        for session in self._watching.watchers(user_id):
            self._doubt(session.data.user_id, [user_id])
        for session in self._manager.members(user_name(user_id)):
            self._doubt(user_id, self._watching.watched_by(session.sid))

    def _note_missed(self, user_ids: Sequence[str]) -> None:
        for user_id in user_ids:
            for session in self._watching.watchers(user_id):
                self._doubt(session.data.user_id, [user_id])

    def _note_changed(self, one: str, other: str) -> None:
        self._doubt(one, [other])
        self._doubt(other, [one])
        for user_id in (one, other):
            for session in self._manager.members(user_name(user_id)):
                self._note_entered(session.sid, list(self._fanout.rooms_of(user_id)))

    def _doubt(self, user_id: str, others: Collection[str]) -> None:
        if others:
            self._doubts.setdefault(user_id, set()).update(others)
            self._wake.set()

    # --- the task ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._settle_doubts()
                await self._introduce_all()
            except Exception as error:
                log.warning("rights to watch not read", reason=type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _settle_doubts(self) -> None:
        while self._doubts:
            user_id, others = self._doubts.popitem()
            try:
                lost = others - await self.visible_to(user_id, others)
            except Exception:
                self._doubt(user_id, others)
                raise
            for session in list(self._manager.members(user_name(user_id))):
                for other in lost.intersection(self._watching.watched_by(session.sid)):
                    session.send(presence_packet(other, OFFLINE, is_new=False))
                self._watching.unwatch(session.sid, lost)

    async def _introduce_all(self) -> None:
        """Have sessions watch the other sides of the direct rooms that they have entered."""
        while self._entered:
            some = {session_id: self._entered.pop(session_id) for session_id in list(self._entered)[:SESSIONS_AT_ONCE]}
            try:
                await self._pairs_of({room_id for room_ids in some.values() for room_id in room_ids})
                await asyncio.gather(*(self._introduce(session_id, room_ids) for session_id, room_ids in some.items()))
            except Exception:
                for session_id, room_ids in some.items():
                    self._note_entered(session_id, room_ids)
                raise

    async def _introduce(self, session_id: str, room_ids: set[str]) -> None:
        session = self._manager.sessions.get(session_id)
        if session is None:
            return
        user_id, watched = session.data.user_id, set(self._watching.watched_by(session_id))
        pairs = await self._pairs_of(room_ids)
        peers = [other for room_id, pair in pairs.items() if room_name(room_id) in session.rooms for other in pair]
        wanted = [peer for peer in dict.fromkeys(peers) if peer != user_id and peer not in watched]
        if not wanted:
            return
        parted = await self._blocks.parted_from(user_id, wanted)
        new = [peer for peer in wanted if peer not in parted][: max(0, WATCHES_MAX - len(watched))]
        for peer, presence in (await self._watching.watch(session_id, new)).items():
            if presence.status != "offline":
                session.send(presence_packet(peer, presence, is_new=True))
