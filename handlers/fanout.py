"""Events to rooms and to users' devices, on every node, and who is in which room."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import structlog

from handlers.delivery import Delivery, room_name, user_name
from handlers.packets import server_packet
from protocol.events import ServerEvent
from realtime.cluster import Cluster
from realtime.frames import Packet
from realtime.manager import Manager
from storage.messages import MessageLog

_ADMIT: Final = "admit"
_EXPEL: Final = "expel"
_CLOSE: Final = "close"

log = structlog.get_logger()


class Listener(Protocol):
    """Takes care of realtime names of one kind, "kind:key", on whose channels there is more than packets for clients.

    All is synchronous.
    """

    def heard(self, key: str, payload: bytes) -> None:
        """Another node has published this."""

    def emptied(self, key: str) -> None:
        """No session of this node is there any more."""

    def missed(self, keys: Sequence[str]) -> None:
        """Something may have been published that was not heard."""


class Fanout:
    """This node's view of all devices: it acts on its own sessions at once, and on other nodes' by the bus.

    Changes of membership go on the room's own channel, so that they stand in line with the room's messages, and on
    the user's, which every node with a device of theirs listens to; they are confirmed before the caller goes on.
    `on_event(name, payload)` overhears what is told to a whole room or user, `on_heard` what another node tells them;
    both are synchronous and must not raise.

    `on_entered(session_id, room_ids)` tells that a session of this node is let into rooms; `on_left(user_id, room_id)`
    that somebody, on whatever node, was taken out of a room that this node listens to. Both are synchronous.
    """

    def __init__(self, manager: Manager, cluster: Cluster, delivery: Delivery, messages: MessageLog) -> None:
        self._manager = manager
        self._cluster = cluster
        self._delivery = delivery
        self._messages = messages
        self._expelled: dict[str, list[set[str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changes: dict[str, Callable[..., None]] = {}
        self.listeners: dict[str, Listener] = {}
        self.on_entered: Callable[[str, Sequence[str]], None] = lambda session_id, room_ids: None
        self.on_left: Callable[[str, str], None] = lambda user_id, room_id: None
        self._listening: dict[str, int] = {}
        self._numbers = itertools.count()
        self.on_event: Callable[[str, bytes], None] = lambda name, payload: None
        self.on_heard: Callable[[str, bytes], None] = lambda name, payload: None
        manager.on_filled = self._filled
        manager.on_emptied = self._emptied
        cluster.on_frame = self._frame
        cluster.on_request = self._change

    def keeps(self, name: str) -> bool:
        """Whether the chat decides who is in the realtime room of this name."""
        kind, _, key = name.partition(":")
        return bool(key) and (kind in ("room", "user") or kind in self.listeners)

    def _filled(self, name: str) -> None:
        if not self.keeps(name):
            return
        self._listening[name] = next(self._numbers)
        if name.startswith("room:"):
            self._delivery.filled(name.removeprefix("room:"))
        self._cluster.join(name)

    def _emptied(self, name: str) -> None:
        if self._listening.pop(name, None) is None:
            return
        if name.startswith("room:"):
            self._delivery.emptied(name.removeprefix("room:"))
        elif (listener := self._listener(name)) is not None:
            listener.emptied(_key(name))
        self._cluster.leave(name)

    def _listener(self, name: str) -> Listener | None:
        return self.listeners.get(name.partition(":")[0])

    def missed(self, names: Sequence[str]) -> None:
        """The bus may have lost something for these names."""
        for kind, listener in self.listeners.items():
            keys = [_key(name) for name in names if name.startswith(f"{kind}:")]
            if keys:
                listener.missed(keys)

    # --- events ---------------------------------------------------------------------------------------------------

    def to_room(self, room_id: str, event: ServerEvent, *, skip: str | None = None) -> None:
        """Tell a room's connected members. Never waits."""
        self._emit(room_name(room_id), event, skip)

    def to_user(self, user_id: str, event: ServerEvent, *, skip: str | None = None) -> None:
        """Tell a user's connected devices. Never waits."""
        self._emit(user_name(user_id), event, skip)

    def to_others(self, room_id: str, user_id: str, event: ServerEvent) -> None:
        """Tell a room's connected members, all devices of one of them left out. Never waits."""
        packet = server_packet(event)
        self._manager.broadcast_unless(room_name(room_id), packet, user_name(user_id))
        self._cluster.publish(room_name(room_id), None, packet, unless=user_name(user_id))

    def to_user_here(self, user_id: str, event: ServerEvent) -> None:
        """Tell a user's devices on this node alone. Never waits."""
        self._manager.broadcast(user_name(user_id), server_packet(event))

    def _emit(self, name: str, event: ServerEvent, skip: str | None) -> None:
        packet = server_packet(event)
        self.on_event(name, packet.plain_payload)
        self._manager.broadcast(name, packet, skip)
        self._cluster.publish(name, None, packet, skip=skip)

    def _frame(self, name: str, seq: int | None, packet: Packet, skip: str | None, unless: str | None) -> None:
        """Another node's event for our members."""
        if seq is not None:
            self._delivery.arrived(name.removeprefix("room:"), seq, packet, skip)
        elif unless is not None:
            self._manager.broadcast_unless(name, packet, unless)
        elif (listener := self._listener(name)) is not None:
            listener.heard(_key(name), packet.plain_payload)
        else:
            self.on_event(name, packet.plain_payload)
            self.on_heard(name, packet.plain_payload)
            self._manager.broadcast(name, packet, skip)

    # --- changes that nodes take note of ----------------------------------------------------------------------------

    def on_change(self, kind: str, apply: Callable[..., None]) -> None:
        """Have `apply(*fields)` called at every change of this kind, whichever node it comes from."""
        self._changes[kind] = apply

    async def change(self, names: Sequence[str], kind: str, *fields: Any) -> None:
        """Tell this node, and all that listen to any of these realtime names, and wait for them, 1 s at most."""
        self._changes[kind](*fields)
        await self._cluster.request(list(names), [kind, *fields])

    def listening(self, name: str) -> int | None:
        """The number of the stretch of time for which this node has been told of all changes there; None outside one.

        What was read from the store in another stretch may have changed unheard.
        """
        return self._listening.get(name)

    # --- membership -----------------------------------------------------------------------------------------------

    async def admit(self, user_ids: Sequence[str], room_id: str, tail: int | None = None) -> bool:
        """Let users' connected devices into a room's live channel, on every node.

        `tail` is a seq that the room is known to have reached; without it the store is asked. Returns whether the
        room has just opened here: then what was sent before its channel stood is missing (`Delivery.catch_up`).
        """
        last = self._delivery.last(room_id)
        base = next((seq for seq in (last, tail) if seq is not None), None)
        change = [_ADMIT, room_id, list(user_ids), base if base is not None else await self._messages.tail(room_id)]
        self._apply(change)
        try:
            await self._cluster.tell([user_name(user_id) for user_id in user_ids], change)
            if last is None:
                await self._cluster.joined([room_name(room_id)])
        except asyncio.CancelledError:
            self.gap(room_id)
            raise
        return last is None

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
        """Apply another node's change."""
        if change[0] in self._changes:
            self._changes[change[0]](*change[1:])
            return
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
            for user_id in self._expelled:
                self._note_expelled(user_id, room_id)
            for session in list(self._manager.members(room_name(room_id))):
                self._manager.leave(session, room_name(room_id))
                if session.data is not None:
                    self.on_left(session.data.user_id, room_id)

    async def _catch_up(self, room_id: str) -> None:
        """A room that opened here at a known seq: fetch what was sent before the bus confirmed its channel."""
        try:
            await self._cluster.joined([room_name(room_id)])
            await self._delivery.heal([room_id])
        except Exception as error:
            log.warning("room not caught up yet", reason=type(error).__name__)
            self.gap(room_id)

    def gap(self, room_id: str) -> None:
        """Have a room healed in which something may be missing on this node."""
        self._cluster.on_gap([room_name(room_id)])

    def enter(self, user_id: str, room_id: str) -> None:
        """Put a user's devices on this node into a room."""
        for session in list(self._manager.members(user_name(user_id))):
            if room_name(room_id) not in session.rooms:
                self._manager.enter(session, room_name(room_id))
                self.on_entered(session.sid, [room_id])

    def leave(self, user_id: str, room_id: str) -> None:
        """Take a user's devices on this node out of a room, also those that are about to enter it."""
        self._note_expelled(user_id, room_id)
        for session in list(self._manager.members(user_name(user_id))):
            self._manager.leave(session, room_name(room_id))
        self.on_left(user_id, room_id)

    def _note_expelled(self, user_id: str, room_id: str) -> None:
        for expelled in self._expelled.get(user_id, ()):
            expelled.add(room_id)

    # --- sessions of this node --------------------------------------------------------------------------------------

    async def enter_as(self, session_id: str, user_id: str) -> None:
        """Make a session one of the user's devices, if it is still there; events for them reach it from now on."""
        session = self._manager.sessions.get(session_id)
        if session is None:
            return
        self._manager.enter(session, user_name(user_id))
        await self._cluster.joined([user_name(user_id)])
        if user_name(user_id) in self._listening:
            # What was read before the channel was confirmed may have changed unheard.
            self._listening[user_name(user_id)] = next(self._numbers)

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

    def is_entered_elsewhere(self, user_id: str) -> bool:
        """Whether somebody else is reading this user's memberships, too, to let a session into their rooms."""
        return len(self._expelled.get(user_id, ())) > 1

    async def enter_rooms(self, session_id: str, room_ids: Sequence[str]) -> None:
        """Put one session into rooms; what is read from the store afterwards is not older than their live channels."""
        session = self._manager.sessions.get(session_id)
        if session is not None and room_ids:
            for room_id in room_ids:
                self._manager.enter(session, room_name(room_id))
            self.on_entered(session_id, room_ids)
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

    def met_here(self, user_id: str, others: Iterable[str]) -> set[str]:
        """Those of the others whose devices on this node share a room with the user's."""
        mine = {room_name(room_id) for room_id in self.rooms_of(user_id)}
        return {
            other
            for other in others
            if any(not mine.isdisjoint(session.rooms) for session in self._manager.members(user_name(other)))
        }

    async def close(self) -> None:
        """Stop catching up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _key(name: str) -> str:
    """What follows the kind in a realtime name."""
    return name.partition(":")[2]
