"""Values in what foreign emitters publish: hostile bytes in, plain values and JSON out, at a bounded cost."""

import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgpack
import orjson

MAX_ENTRIES: Final = 10_000
"""Entries of one array or object in msgpack."""
MAX_CLAIM: Final = 16
"""Array entries that msgpack may announce for each of its bytes: the decoder makes room for all of them beforehand, at
each level of nesting, so that a few bytes could keep it busy for long. True ones take a byte or more; the rest is for
numbers that look like announcements."""
_ANNOUNCED: Final = re.compile(rb"\xdc(?=([\x01-\x27].))|\xdd(?=\x00\x00([\x01-\x27].))", re.DOTALL)
"""The heads of arrays of 256 to about MAX_ENTRIES entries (MessagePack: array 16 and 32); longer ones are refused."""
_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]|\xca[\x7f\xff][\x80-\xff]")
"""How NaN and infinity begin (MessagePack: float 64, float 32), and little else does."""
_CONTAINERS: Final = frozenset({list, dict})

Reason = Literal["malformed", "pickled", "too_large", "namespace", "event", "argument", "room", "unsupported"]


class Dropped(Exception):
    """The bytes are no command that a foreign emitter may give; `reason` is one of a few words."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def read_json(body: bytes) -> Any:
    """What JSON says; none of NaN, infinite numbers and lone surrogates passes. Raises: Dropped."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # 0x80 begins every pickle of protocol 2 and later: a python-socketio before 5.14.
        raise Dropped("pickled" if body[:1] == b"\x80" else "malformed") from error


def read_msgpack(body: bytes) -> Any:
    """What msgpack says, as far as JSON could say it, and dates and bytes. Raises: Dropped."""
    claimed = 0
    for head in _ANNOUNCED.finditer(body):
        claimed += int.from_bytes(head[1] or head[2], "big")
        if claimed > MAX_CLAIM * len(body):
            raise Dropped("malformed")
    try:
        value = msgpack.unpackb(body, max_array_len=MAX_ENTRIES, max_map_len=MAX_ENTRIES, timestamp=3)
    except Exception as error:
        raise Dropped("malformed") from error
    if _NOT_FINITE.search(body) and not _is_finite(value):
        raise Dropped("argument")
    return value


def write_json(value: Any, max_depth: int) -> bytes:
    """A value in JSON, dates as the wire has times, nested no deeper. Raises: Dropped for what JSON has not."""
    for depth, _ in enumerate(_containers(value), start=1):
        if depth > max_depth:
            raise Dropped("argument")
    try:
        return orjson.dumps(value, default=_wire_time, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError as error:
        raise Dropped("argument") from error


def _containers(value: Any) -> Iterator[list[Any]]:
    """The arrays and objects in a value, level by level, so that nothing recurses."""
    level = [value] if type(value) in _CONTAINERS else []
    while level:
        yield level
        level = [child for container in level for child in _children(container) if type(child) in _CONTAINERS]


def _children(container: Any) -> Iterable[Any]:
    return container.values() if type(container) is dict else container


def _is_finite(value: Any) -> bool:
    return all(
        math.isfinite(child)
        for level in _containers([value])
        for container in level
        for child in _children(container)
        if type(child) is float
    )


def _wire_time(value: Any) -> str:
    """A JavaScript Date as JSON has it. Raises: TypeError for anything else that JSON has not."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise TypeError("not JSON")
