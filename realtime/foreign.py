"""What foreign emitters publish, read strictly: bytes in, one command out. No I/O, and nothing is ever unpickled.

    socketio                   JSON, python-socketio's write-only managers
    socket.io#/#[<room>#]      msgpack [uid, packet, options], @socket.io/redis-emitter
    socket.io-request#/#       JSON, the same one's joins, leaves and disconnects

Sources: python-socketio 5.18 (pub/sub managers), the Redis adapter's protocol of Socket.IO 4.
"""

from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from realtime.foreign_values import Dropped, read_json, read_msgpack, write_json
from realtime.limits import Limits
from realtime.packets import BINARY_EVENT, EVENT, RESERVED_EVENTS, encode_event

PYTHON_CHANNEL: Final = "socketio"
BROADCAST_CHANNEL: Final = "socket.io#/#"
REQUEST_CHANNEL: Final = "socket.io-request#/#"

PYTHON: Final = "python-socketio"
OFFICIAL: Final = "redis-emitter"

MAX_NAMES: Final = 10_000
"""Rooms that one command may name."""
MAX_NAME_CHARACTERS: Final = 256
JSON_EXPANSION: Final = 3
"""JSON in ASCII, as Python writes it by default, takes up to three times the bytes of UTF-8."""
ENVELOPE_BYTES: Final = 4_096
"""What an event may be wrapped in; names of rooms count as well."""
_REQUEST_JOIN, _REQUEST_LEAVE, _REQUEST_DISCONNECT = 2, 3, 4


class Target(NamedTuple):
    """Sessions by the rooms they are in, their own id being one; None is everybody. `skip` leaves out the same way."""

    rooms: tuple[str, ...] | None
    skip: frozenset[str] = frozenset()


class Emit(NamedTuple):
    """Send an event: `payload` is its Engine.IO packet."""

    target: Target
    payload: bytes


class Join(NamedTuple):
    """Put sessions into rooms."""

    target: Target
    rooms: tuple[str, ...]


class Leave(NamedTuple):
    """Take sessions out of rooms."""

    target: Target
    rooms: tuple[str, ...]


class Disconnect(NamedTuple):
    """End the connections of sessions."""

    target: Target


Command = Emit | Join | Leave | Disconnect


class ForeignReader:
    """Reads both formats by the same rules.

    An event has one JSON argument (null when the emitter gave none), is as a packet within the limits that clients
    have, and its name is neither reserved nor among `refused_events`. Rooms that `is_protected` are not joined or left.
    """

    def __init__(self, limits: Limits, refused_events: Collection[str], is_protected: Callable[[str], bool]) -> None:
        self._max_payload = limits.payload_bytes
        self._max_bytes = JSON_EXPANSION * limits.payload_bytes + ENVELOPE_BYTES
        self._max_depth = limits.json_depth
        self._refused = RESERVED_EVENTS.union(refused_events)
        self.is_protected = is_protected

    def read(self, channel: str, body: bytes) -> Command:
        """The command in what was published on a channel. Raises: Dropped, and nothing else for any bytes."""
        if len(body) > self._max_bytes:
            raise Dropped("too_large")
        if channel == PYTHON_CHANNEL:
            return self._python(read_json(body))
        if channel == REQUEST_CHANNEL:
            return self._request(read_json(body))
        return self._broadcast(read_msgpack(body))

    # --- the two formats ------------------------------------------------------------------------------------------

    def _python(self, message: Any) -> Command:
        if not isinstance(message, dict):
            raise Dropped("malformed")
        if (message.get("namespace") or "/") != "/":
            raise Dropped("namespace")
        match message:
            case {"method": "emit", "event": str(event), "data": data}:
                if message.get("callback") is not None:
                    raise Dropped("unsupported")
                if message.get("binary"):
                    raise Dropped("argument")
                room = message.get("room")
                target = Target(None if room is None else _names(room), _skipped(message.get("skip_sid")))
                return self._emit(target, event, data if isinstance(data, list) else [data])
            case {"method": "disconnect", "sid": str(sid)}:
                return Disconnect(Target((sid,)))
            case {"method": "enter_room", "sid": str(sid), "room": room}:
                return Join(Target((sid,)), self._open_rooms(room))
            case {"method": "leave_room", "sid": str(sid), "room": room}:
                return Leave(Target((sid,)), self._open_rooms(room))
            case {"method": "close_room", "room": room}:
                rooms = self._open_rooms(room)
                return Leave(Target(rooms), rooms)
            case {"method": "callback"}:
                raise Dropped("unsupported")
        raise Dropped("malformed")

    def _broadcast(self, envelope: Any) -> Command:
        match envelope:
            case [_, {"data": [str(event), *arguments]} as packet, {} as options]:
                if (packet.get("nsp") or "/") != "/":
                    raise Dropped("namespace")
                if packet.get("type") != EVENT or packet.get("id") is not None:
                    raise Dropped("argument" if packet.get("type") == BINARY_EVENT else "unsupported")
                return self._emit(_target(options), event, arguments)
        raise Dropped("malformed")

    def _request(self, request: Any) -> Command:
        match request:
            case {"type": int(kind), "opts": {} as options, "rooms": rooms} if kind == _REQUEST_JOIN:
                return Join(_target(options), self._open_rooms(rooms))
            case {"type": int(kind), "opts": {} as options, "rooms": rooms} if kind == _REQUEST_LEAVE:
                return Leave(_target(options), self._open_rooms(rooms))
            case {"type": int(kind), "opts": {} as options} if kind == _REQUEST_DISCONNECT:
                return Disconnect(_target(options))
            case {"type": int()}:
                raise Dropped("unsupported")
        raise Dropped("malformed")

    # --- the rules ------------------------------------------------------------------------------------------------

    def _emit(self, target: Target, event: str, arguments: list[Any]) -> Emit:
        if event in self._refused:
            raise Dropped("event")
        if len(arguments) > 1:
            raise Dropped("argument")
        # One level of nesting is the array that begins with the event's name.
        argument = write_json(arguments[0] if arguments else None, self._max_depth - 1)
        payload = encode_event(event, argument)
        if len(payload) > self._max_payload:
            raise Dropped("too_large")
        return Emit(target, payload)

    def _open_rooms(self, rooms: Any) -> tuple[str, ...]:
        """Rooms that a foreign emitter may move sessions into and out of."""
        names = _names(rooms)
        if any(len(name) > MAX_NAME_CHARACTERS or self.is_protected(name) for name in names):
            raise Dropped("room")
        return names


def _target(options: dict[str, Any]) -> Target:
    """Of the official emitter an empty list of rooms means everybody, no list at all is a mistake."""
    return Target(_names(options.get("rooms")) or None, _skipped(options.get("except")))


def _skipped(value: Any) -> frozenset[str]:
    return frozenset() if value is None else frozenset(_names(value))


def _names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or len(names) > MAX_NAMES or not all(isinstance(name, str) for name in names):
        raise Dropped("malformed")
    return tuple(dict.fromkeys(names))
