"""Socket.IO packets, read strictly and written with orjson.

    <type>[<attachments>-][<namespace>,][<ack id>][JSON]

Source: Socket.IO protocol 5.
"""

import json
import math
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from realtime.limits import DEFAULT_LIMITS, Limits

CONNECT: Final = 0
DISCONNECT: Final = 1
EVENT: Final = 2
ACK: Final = 3
CONNECT_ERROR: Final = 4
BINARY_EVENT: Final = 5
BINARY_ACK: Final = 6

EVENT_NAMES_KEPT: Final = 1_024
"""Event names that a server sends, kept as they begin a packet; few have so many."""
RESERVED_EVENTS: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
_MAX_ID_DIGITS: Final = 16
_MAX_NAMESPACE: Final = 256
_MAX_INTEGER_DIGITS: Final = 400
"""Longer ones are infinity to every field; int() refuses 4,300 and more, in time that grows with their square."""


class MalformedPacket(Exception):
    """The bytes are not a Socket.IO packet that a client may send; the connection cannot go on."""


class PastLimit(MalformedPacket):
    """A packet goes past one of `realtime.limits.Limits`, the one of this name."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"past the limit of {limit}")
        self.limit = limit


class Incoming(NamedTuple):
    """A packet as it came: `data` is the parsed JSON, or None when there was none."""

    type: int
    namespace: str
    id: int | None
    data: Any
    attachments: int


def decode(text: bytes, limits: Limits = DEFAULT_LIMITS) -> Incoming:
    """Read one packet (without the Engine.IO type digit).

    Raises: MalformedPacket for anything that the protocol, or our bounds, do not allow.
    """
    kind = text[0] - 48 if text else -1
    if not CONNECT <= kind <= BINARY_ACK or kind == CONNECT_ERROR:
        raise MalformedPacket("unknown packet type")
    position = 1
    attachments = 0
    if kind >= BINARY_EVENT:
        dash = text.find(b"-", 1, 12)
        if dash < 2 or not text[1:dash].isdigit() or (attachments := int(text[1:dash])) < 1:
            raise MalformedPacket("bad attachment count")
        if attachments > limits.attachments:
            raise PastLimit("attachments")
        position = dash + 1
    namespace = "/"
    if text[position : position + 1] == b"/":
        comma = text.find(b",", position)
        end = len(text) if comma < 0 else comma
        if end - position > _MAX_NAMESPACE:
            raise MalformedPacket("namespace too long")
        namespace = text[position:end].decode("utf-8", "replace").partition("?")[0]
        position = end + 1
    start = position
    while text[position : position + 1].isdigit():
        position += 1
    if position - start > _MAX_ID_DIGITS:
        raise MalformedPacket("ack id too long")
    ack_id = int(text[start:position]) if position > start else None
    data = parse_json(text[position:], limits.json_depth) if position < len(text) else None
    _check_shape(kind, ack_id, data)
    return Incoming(kind, namespace, ack_id, data, attachments)


def _check_shape(kind: int, ack_id: int | None, data: Any) -> None:
    if kind in (EVENT, BINARY_EVENT):
        if not isinstance(data, list) or not data or not isinstance(data[0], str):
            raise MalformedPacket("an event needs a name")
        if data[0] in RESERVED_EVENTS:
            raise MalformedPacket("reserved event name")
    elif kind in (ACK, BINARY_ACK):
        if ack_id is None or not isinstance(data, list):
            raise MalformedPacket("an ack needs an id and arguments")
    elif kind == CONNECT:
        if data is not None and not isinstance(data, dict):
            raise MalformedPacket("the CONNECT payload must be an object")
    elif data is not None:
        raise MalformedPacket("DISCONNECT carries no data")


def _refuse_constant(name: str) -> Any:
    raise MalformedPacket(f"{name} is not JSON")


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else math.inf


def parse_json(text: bytes, max_depth: int = DEFAULT_LIMITS.json_depth) -> Any:
    """Read JSON. Lone surrogates and numbers beyond a double pass, to be refused as fields by whoever reads them.

    Raises: MalformedPacket for what is not JSON, NaN and Infinity, and nesting deeper than `max_depth`.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            # Decoded here, for left to itself json guesses at UTF-16 and UTF-32.
            readable = text.decode()
            value = json.loads(readable, parse_constant=_refuse_constant, parse_int=_parse_integer)
        except (ValueError, RecursionError) as error:
            raise MalformedPacket("invalid JSON") from error
    if text.count(b"[") + text.count(b"{") > max_depth and _depth(value, max_depth) > max_depth:
        raise PastLimit("json_depth")
    return value


def _depth(value: Any, enough: int) -> int:
    """How many arrays and objects lie around the innermost value, counted no further than past `enough`.

    Walks level by level, so it cannot overflow.
    """
    depth = 0
    level = [value]
    while level:
        containers = [item for item in level if isinstance(item, list | dict)]
        if not containers or depth > enough:
            return depth
        depth += 1
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def reconstruct(data: Any, attachments: list[bytes]) -> Any:
    """Put attachments in place of their placeholders. Raises: MalformedPacket when one is missing or named twice."""
    used: set[int] = set()

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("_placeholder") is not True:
            return {key: fill(item) for key, item in value.items()}
        number = value.get("num")
        if type(number) is not int or not 0 <= number < len(attachments) or number in used:
            raise MalformedPacket("bad attachment placeholder")
        used.add(number)
        return attachments[number]

    filled = fill(data)
    if len(used) != len(attachments):
        raise MalformedPacket("fewer placeholders than attachments")
    return filled


def _prefix(namespace: str) -> bytes:
    return b"" if namespace == "/" else namespace.encode() + b","


def encode_event(event: str, payload: bytes | None, namespace: str = "/") -> bytes:
    """An EVENT inside an Engine.IO message, with its one argument already in JSON."""
    head = _event_head(event, namespace)
    return head + b"]" if payload is None else head + b"," + payload + b"]"


@lru_cache(EVENT_NAMES_KEPT)
def _event_head(event: str, namespace: str) -> bytes:
    return b"42" + _prefix(namespace) + b"[" + orjson.dumps(event)


def encode_ack(ack_id: int, payload: bytes, namespace: str = "/") -> bytes:
    """An ACK inside an Engine.IO message, with its one argument already in JSON."""
    return b"43" + _prefix(namespace) + b"%d[" % ack_id + payload + b"]"


def encode_connect(sid: str, namespace: str = "/", pid: str | None = None) -> bytes:
    """The server's CONNECT: the session is open; with a `pid` it can be recovered."""
    return b"40" + _prefix(namespace) + orjson.dumps({"sid": sid} if pid is None else {"sid": sid, "pid": pid})


def encode_connect_error(error: Any, namespace: str = "/") -> bytes:
    """CONNECT_ERROR: the session was refused, and why."""
    return b"44" + _prefix(namespace) + orjson.dumps(error)


def encode_disconnect(namespace: str = "/") -> bytes:
    """The server's DISCONNECT: stock clients do not come back by themselves after it."""
    return b"41" + _prefix(namespace)


class OrjsonAdapter:
    """orjson behind the interface that python-socketio's `json=` expects."""

    @staticmethod
    def dumps(data: Any, **_: Any) -> str:
        """JSON text without spaces."""
        return orjson.dumps(data).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        """The parsed value."""
        return orjson.loads(text)
