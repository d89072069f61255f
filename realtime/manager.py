"""Sessions and rooms of this process, and the fan-out of one encoded packet to them.

A reverse index keeps each session's rooms, so that leaving costs what the session joined, not what the server holds.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from socketio import AsyncManager

from realtime.frames import Packet
from realtime.packets import encode_event
from realtime.pipeline import Pipeline
from realtime.socket import Socket


class Session:
    """One client in one namespace.

    Packets sent before CONNECT is answered wait behind it, and behind the `greeting` that its handler leaves.
    """

    __slots__ = ("_held", "connected", "data", "greeting", "namespace", "pipeline", "rooms", "sid", "socket")

    def __init__(self, sid: str, namespace: str, socket: Socket) -> None:
        self.sid = sid
        self.namespace = namespace
        self.socket = socket
        self.rooms: set[str] = set()
        self.connected = False
        self.data: Any = None
        self.pipeline: Pipeline | None = None
        self.greeting: tuple[Packet, ...] = ()
        self._held: list[Packet] = []

    def send(self, packet: Packet) -> None:
        """Queue a packet for this client."""
        if self.connected:
            self.socket.send(packet)
        else:
            self._held.append(packet)

    def open(self, *first: Packet) -> None:
        """Let the session's packets go, these before all that were held."""
        self.connected = True
        held, self._held = self._held, []
        for packet in (*first, *held):
            self.socket.send(packet)


class Manager(AsyncManager):
    """The client manager of one process, on its own indexes.

    `on_filled(room)` and `on_emptied(room)` tell when a room of the root namespace gains its first local member and
    loses its last one; both are called synchronously, between two packets.
    """

    def __init__(self, max_rooms: int, on_limit: Callable[[str], None]) -> None:
        super().__init__()
        self._max_rooms = max_rooms
        self._on_limit = on_limit
        self.sessions: dict[str, Session] = {}
        self._members: dict[str, dict[str, dict[Session, None]]] = {}
        self.on_filled: Callable[[str], None] = lambda room: None
        self.on_emptied: Callable[[str], None] = lambda room: None

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

    # --- rooms --------------------------------------------------------------------------------------------------

    def members(self, room: str, namespace: str = "/") -> Iterable[Session]:
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
        """Send one packet to a room's local members; returns how many."""
        count = 0
        for session in self.members(room, namespace):
            if session.sid != skip:
                session.send(packet)
                count += 1
        return count

    def broadcast_unless(self, room: str, packet: Packet, unless: str) -> None:
        """Send one packet to a room's local members that are not in the room `unless` as well."""
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
        shared: list[Packet] | None = None
        for session in self._targets(namespace, to or room):
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

    def basic_leave_room(self, sid: str, namespace: str, room: str) -> None:
        """Take a session out of a room."""
        session = self.sessions.get(sid)
        if session is not None:
            self.leave(session, room)

    def basic_close_room(self, room: str, namespace: str) -> None:
        """Take everybody out of a room."""
        for session in list(self.members(room, namespace)):
            self.leave(session, room)

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        """The rooms of a session."""
        session = self.sessions.get(sid)
        return [] if session is None else [sid, *session.rooms]


def encoded_packets(packet: Any) -> list[Packet]:
    """One of python-socketio's packets, its attachments behind it."""
    encoded = packet.encode()
    text, *attachments = encoded if isinstance(encoded, list) else [encoded]
    return [Packet(b"4" + text.encode()), *(Packet(bytes(attachment), binary=True) for attachment in attachments)]


def event_packet(event: str, payload: bytes, namespace: str = "/", *, droppable: bool = False) -> Packet:
    """An event with one argument, already in JSON, encoded for everybody."""
    return Packet(encode_event(event, payload, namespace), droppable=droppable)
