"""Sessions and rooms of this process, and the fan-out of one encoded packet to them.

A reverse index keeps each session's rooms, so that leaving costs what the session joined, not what the server holds.
"""

import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

from socketio import AsyncManager

from realtime.frames import Packet
from realtime.packets import encode_event
from realtime.pipeline import Pipeline
from realtime.socket import Socket


class Session:
    """One client in one namespace.

    Packets sent before CONNECT is answered are `held` behind it, and behind the `greeting` that its handler leaves.
    Without a `key`, under which it can be recovered (see realtime.recovery), the client is sent no offsets.
    """

    __slots__ = ("connected", "data", "greeting", "held", "key", "namespace", "pipeline", "rooms", "sid", "socket")

    def __init__(self, sid: str, namespace: str, socket: Socket) -> None:
        self.sid = sid
        self.namespace = namespace
        self.socket = socket
        self.rooms: set[str] = set()
        self.connected = False
        self.data: Any = None
        self.pipeline: Pipeline | None = None
        self.greeting: tuple[Packet, ...] = ()
        self.key: str | None = None
        self.held: list[Packet] = []

    def send(self, packet: Packet) -> None:
        """Queue a packet for this client."""
        if self.connected:
            self.socket.send(packet if self.key is not None else packet.plain)
        else:
            self.held.append(packet)

    def open(self, *first: Packet) -> None:
        """Let the session's packets go, these before all that were held."""
        self.connected = True
        held, self.held = self.held, []
        for packet in (*first, *held):
            self.send(packet)


class Manager(AsyncManager):
    """The client manager of one process, on its own indexes.

    `on_filled(room)` and `on_emptied(room)` tell when a room of the root namespace gains its first local member and
    loses its last one; both are called synchronously, between two packets. `on_changed(session)` tells that the
    server's own methods have changed a session's rooms. `relay(room, payload, skip)` sends an event that can go to
    other nodes (see realtime.relay). `in_doubt` keeps offsets from being sent (see realtime.doubt).
    """

    def __init__(self, max_rooms: int, on_limit: Callable[[str], None]) -> None:
        super().__init__()
        self._max_rooms = max_rooms
        self._on_limit = on_limit
        self.sessions: dict[str, Session] = {}
        self.in_doubt = False
        self._members: dict[str, dict[str, dict[Session, None]]] = {}
        self.on_filled: Callable[[str], None] = lambda room: None
        self.on_emptied: Callable[[str], None] = lambda room: None
        self.on_changed: Callable[[Session], None] = lambda session: None
        self.relay: Callable[[str | None, bytes, Collection[str | None]], None] | None = None

    # --- sessions -----------------------------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        """Register a session that is about to be connected."""
        self.sessions[session.sid] = session
        session.socket.sessions[session.namespace] = session

    def remove(self, session: Session) -> None:
        """Forget a session and its rooms."""
        for room in list(session.rooms):
            self.leave(session, room)
        self.sessions.pop(session.sid, None)
        session.socket.sessions.pop(session.namespace, None)

    def rename(self, session: Session, sid: str) -> None:
        """Give a session that is not open yet another id."""
        del self.sessions[session.sid]
        session.sid = sid
        self.sessions[sid] = session

    # --- rooms --------------------------------------------------------------------------------------------------

    def members(self, room: str, namespace: str = "/") -> Collection[Session]:
        """The local sessions in a room, in the order they entered."""
        return self._members.get(namespace, {}).get(room, ())

    def room_names(self, namespace: str = "/") -> list[str]:
        """The rooms that have a local member."""
        return list(self._members.get(namespace, {}))

    def enter(self, session: Session, room: str) -> None:
        """Put a session in a room; again is no error. One that is in as many as it may be stays out."""
        if room in session.rooms or session.sid not in self.sessions:
            return
        if len(session.rooms) >= self._max_rooms:
            self._on_limit("rooms")
            return
        # One string for all members: each session keeps the names of its rooms.
        room = sys.intern(room)
        session.rooms.add(room)
        rooms = self._members.setdefault(session.namespace, {})
        members = rooms.get(room)
        if members is None:
            members = rooms[room] = {}
            if session.namespace == "/":
                self.on_filled(room)
        members[session] = None

    def leave(self, session: Session, room: str) -> None:
        """Take a session out of a room."""
        if room not in session.rooms:
            return
        session.rooms.discard(room)
        rooms = self._members[session.namespace]
        del rooms[room][session]
        if not rooms[room]:
            del rooms[room]
            if session.namespace == "/":
                self.on_emptied(room)

    def broadcast(self, room: str, packet: Packet, skip: str | None = None, namespace: str = "/") -> int:
        """Send one packet to a room's local members; returns how many it has."""
        if self.in_doubt:
            packet = packet.plain
        members = self.members(room, namespace)
        for session in members:
            if session.sid != skip:
                # Session.send, spelled out for the usual case: in a large room a call each counts.
                if session.connected and session.key is not None:
                    session.socket.send(packet)
                else:
                    session.send(packet)
        return len(members)

    def broadcast_unless(self, room: str, packet: Packet, unless: str) -> None:
        """Send one packet to a room's local members that are not in the room `unless` as well."""
        if self.in_doubt:
            packet = packet.plain
        for session in self.members(room):
            if unless not in session.rooms:
                session.send(packet)

    # --- the interface that python-socketio's server calls --------------------------------------------------------

    def _targets(self, namespace: str, room: Any) -> Iterator[Session]:
        if room is None:
            yield from [session for session in self.sessions.values() if session.namespace == namespace]
            return
        seen: set[Session] = set()
        for name in [room] if isinstance(room, str) else room:
            alone = self.sessions.get(name)
            for session in [alone] if alone is not None else list(self.members(name, namespace)):
                if session not in seen and session.namespace == namespace:
                    seen.add(session)
                    yield session

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Any = None,
        skip_sid: Any = None,
        callback: Any = None,
        to: Any = None,
        **_: Any,
    ) -> None:
        """Emit to local sessions, with python-socketio's meaning of data: a tuple is several arguments."""
        skip = set(skip_sid) if isinstance(skip_sid, list) else {skip_sid}
        arguments = list(data) if isinstance(data, tuple) else [] if data is None else [data]
        packet_class = self.server.packet_class
        room = to or room
        if self.relay is not None and namespace == "/" and callback is None and len(skip) == 1 and _is_one(room):
            encoded = packet_class(2, namespace=namespace, data=[event, *arguments]).encode()
            if isinstance(encoded, str):
                self.relay(room, b"4" + encoded.encode(), skip)
                return
        shared: list[Packet] | None = None
        for session in self._targets(namespace, room):
            if session.sid in skip:
                continue
            if callback is not None or shared is None:
                ack_id = self._generate_ack_id(session.sid, callback) if callback is not None else None
                shared = encoded_packets(packet_class(2, namespace=namespace, data=[event, *arguments], id=ack_id))
            for packet in shared:
                session.send(packet)

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        """Pairs of Socket.IO and Engine.IO session ids."""
        for session in self._targets(namespace, room):
            yield session.sid, session.socket.sid

    def is_connected(self, sid: str, namespace: str) -> bool:
        """Whether the session is open."""
        session = self.sessions.get(sid)
        return session is not None and session.connected and session.namespace == namespace

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        """The Socket.IO session of an Engine.IO one."""
        socket: Socket | None = self.server.eio.sockets.get(eio_sid)
        session = socket.sessions.get(namespace) if socket is not None else None
        return None if session is None else session.sid

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        """The Engine.IO session under a Socket.IO one."""
        session = self.sessions.get(sid)
        return None if session is None else session.socket.sid

    def basic_enter_room(self, sid: str, namespace: str, room: str, eio_sid: str | None = None) -> None:
        """Put a session in a room. Raises: ValueError when there is no such session, or the room is another's own."""
        session = self.sessions.get(sid)
        if session is None or session.namespace != namespace:
            raise ValueError("sid is not connected to requested namespace")
        if room in self.sessions and room != sid:
            raise ValueError("cannot enter a sid room")
        self.enter(session, room)
        self.on_changed(session)

    def basic_leave_room(self, sid: str, namespace: str, room: str) -> None:
        """Take a session out of a room."""
        session = self.sessions.get(sid)
        if session is not None:
            self.leave(session, room)
            self.on_changed(session)

    def basic_close_room(self, room: str, namespace: str) -> None:
        """Take everybody out of a room."""
        for session in list(self.members(room, namespace)):
            self.leave(session, room)
            self.on_changed(session)

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        """The rooms of a session."""
        session = self.sessions.get(sid)
        return [] if session is None else [sid, *(session.rooms - {sid})]


def _is_one(room: Any) -> bool:
    """Whether an emit is for one room, or for everybody."""
    return room is None or isinstance(room, str)


def encoded_packets(packet: Any) -> list[Packet]:
    """One of python-socketio's packets, its attachments behind it."""
    encoded = packet.encode()
    text, *attachments = encoded if isinstance(encoded, list) else [encoded]
    return [Packet(b"4" + text.encode()), *(Packet(bytes(attachment), binary=True) for attachment in attachments)]


def event_packet(
    event: str, payload: bytes, namespace: str = "/", *, droppable: bool = False, offset: bytes | None = None
) -> Packet:
    """An event with one argument, already in JSON, encoded for everybody; with an `offset` it can be replayed."""
    return Packet(encode_event(event, payload, namespace), droppable=droppable, offset=offset)
