"""Events to rooms and to users' devices, on every node, and who is in which room."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import structlog

from handlers.delivery import Delivery, room_name, user_name
from protocol.events import ServerEvent
from realtime.cluster import Cluster
from realtime.frames import Packet
from realtime.manager import Manager, event_packet
from storage.messages import MessageLog

_ADMIT: Final = "admit"
_EXPEL: Final = "expel"
_CLOSE: Final = "close"

log = structlog.get_logger()


class Fanout:
    """This node's view of all devices: it acts on its own sessions at once, and on other nodes' by the bus.

    Changes of membership go on the room's own channel, so that they stand in line with the room's messages, and on
    the user's, which every node with a device of theirs listens to; they are confirmed before the caller goes on.
    """

    def __init__(self, manager: Manager, cluster: Cluster, delivery: Delivery, messages: MessageLog) -> None:
        self._manager = manager
        self._cluster = cluster
        self._delivery = delivery
        self._messages = messages
        self._expelled: dict[str, list[set[str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        manager.on_filled = self._filled
        manager.on_emptied = self._emptied
        cluster.on_frame = self._frame
        cluster.on_request = self._change

    def _filled(self, name: str) -> None:
        if name.startswith("room:"):
            self._delivery.filled(name.removeprefix("room:"))
        self._cluster.join(name)

    def _emptied(self, name: str) -> None:
        if name.startswith("room:"):
            self._delivery.emptied(name.removeprefix("room:"))
        self._cluster.leave(name)

    # --- events ---------------------------------------------------------------------------------------------------

    def to_room(self, room_id: str, event: ServerEvent, *, skip: str | None = None) -> None:
        """Tell a room's connected members. Never waits."""
        self._emit(room_name(room_id), event, skip)

    def to_user(self, user_id: str, event: ServerEvent, *, skip: str | None = None) -> None:
        """Tell a user's connected devices. Never waits."""
        self._emit(user_name(user_id), event, skip)

    def _emit(self, name: str, event: ServerEvent, skip: str | None) -> None:
        packet = event_packet(event.wire_name, event.wire_json())
        self._manager.broadcast(name, packet, skip)
        self._cluster.publish(name, None, packet.payload)

    def _frame(self, name: str, seq: int | None, payload: bytes) -> None:
        """Another node's event for our members."""
        if seq is None:
            self._manager.broadcast(name, Packet(payload))
        else:
            self._delivery.arrived(name.removeprefix("room:"), seq, payload)

    # --- membership -----------------------------------------------------------------------------------------------

    async def admit(self, user_ids: Sequence[str], room_id: str) -> None:
        """Let users' connected devices into a room's live channel, on every node."""
        base = self._delivery.last(room_id)
        if base is None:
            base = await self._messages.tail(room_id)
        change = [_ADMIT, room_id, list(user_ids), base]
        self._apply(change)
        await self._delivery.open([room_id])
        await self._cluster.request([user_name(user_id) for user_id in user_ids], change)

    async def expel(self, user_ids: Sequence[str], room_id: str) -> None:
        """Take users' devices out of it: nothing sent to the room from now on reaches them."""
        change = [_EXPEL, room_id, list(user_ids)]
        self._apply(change)
        await self._cluster.request([room_name(room_id), *(user_name(user_id) for user_id in user_ids)], change)

    async def close_room(self, room_id: str) -> None:
        """Take everybody out of it."""
        change = [_CLOSE, room_id]
        self._apply(change)
        await self._cluster.request([room_name(room_id)], change)

    def _change(self, change: list[Any]) -> None:
        """Apply another node's change of membership."""
        self._apply(change)
        if change[0] == _ADMIT:
            task = asyncio.get_running_loop().create_task(self._catch_up(change[1]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _apply(self, change: list[Any]) -> None:
        kind, room_id, *rest = change
        if kind == _ADMIT:
            user_ids, base = rest
            for user_id in user_ids:
                self.enter(user_id, room_id)
            self._delivery.start(room_id, base)
        elif kind == _EXPEL:
            for user_id in rest[0]:
                self.leave(user_id, room_id)
        elif kind == _CLOSE:
            for session in list(self._manager.members(room_name(room_id))):
                self._manager.leave(session, room_name(room_id))

    async def _catch_up(self, room_id: str) -> None:
        """A room that opened here by another node's word: fetch what was sent before the bus confirmed its channel."""
        try:
            await self._cluster.joined([room_name(room_id)])
            await self._delivery.heal([room_id])
        except Exception as error:
            log.warning("room not caught up", reason=type(error).__name__)

    def enter(self, user_id: str, room_id: str) -> None:
        """Put a user's devices on this node into a room."""
        for session in list(self._manager.members(user_name(user_id))):
            self._manager.enter(session, room_name(room_id))

    def leave(self, user_id: str, room_id: str) -> None:
        """Take a user's devices on this node out of a room, also those that are about to enter it."""
        for entering in self._expelled.get(user_id, ()):
            entering.add(room_id)
        for session in list(self._manager.members(user_name(user_id))):
            self._manager.leave(session, room_name(room_id))

    # --- sessions of this node --------------------------------------------------------------------------------------

    async def enter_as(self, session_id: str, user_id: str) -> None:
        """Make a session one of the user's devices; events for them reach it from now on."""
        self._manager.enter(self._manager.sessions[session_id], user_name(user_id))
        await self._cluster.joined([user_name(user_id)])

    @contextmanager
    def entering(self, user_id: str) -> Iterator[set[str]]:
        """Collect the rooms that the user is taken out of while their memberships are being read."""
        expelled: set[str] = set()
        self._expelled.setdefault(user_id, []).append(expelled)
        try:
            yield expelled
        finally:
            self._expelled[user_id] = [other for other in self._expelled[user_id] if other is not expelled]
            if not self._expelled[user_id]:
                del self._expelled[user_id]

    async def enter_rooms(self, session_id: str, room_ids: Sequence[str]) -> None:
        """Put one session into rooms; what is read from the store afterwards is not older than their live channels."""
        session = self._manager.sessions.get(session_id)
        if session is not None:
            for room_id in room_ids:
                self._manager.enter(session, room_name(room_id))
            await self._delivery.open(room_ids)

    def is_in(self, session_id: str | None, room_id: str) -> bool:
        """Whether a session of this node is in a room, so that its user was a member when last heard of."""
        session = self._manager.sessions.get(session_id) if session_id is not None else None
        return session is not None and room_name(room_id) in session.rooms

    def users(self) -> list[str]:
        """Users with a device on this node."""
        return [name.removeprefix("user:") for name in self._manager.room_names() if name.startswith("user:")]

    def rooms_of(self, user_id: str) -> set[str]:
        """The rooms that any of the user's devices on this node is in."""
        names = {name for session in self._manager.members(user_name(user_id)) for name in session.rooms}
        return {name.removeprefix("room:") for name in names if name.startswith("room:")}

    async def close(self) -> None:
        """Stop catching up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
