"""What foreign emitters publish is a command by the rules, or dropped: whatever the bytes, nothing else happens."""

import json
import math
import pickle
import tracemalloc
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime import packets
from realtime.foreign import (
    BROADCAST_CHANNEL,
    MAX_NAMES,
    PYTHON_CHANNEL,
    REQUEST_CHANNEL,
    Command,
    Disconnect,
    Emit,
    ForeignReader,
    Join,
    Leave,
    Target,
)
from realtime.foreign_values import Dropped
from realtime.limits import Limits

MAX_PAYLOAD = 10_000
EVERYBODY = Target(None)
reader = ForeignReader(
    Limits(payload_bytes=MAX_PAYLOAD), {"message:received"}, lambda room: room.startswith(("user:", "room:"))
)

large_reader = ForeignReader(Limits(), (), lambda room: False)


def python(**fields: Any) -> Command:
    """What the reader makes of a message of python-socketio's."""
    return reader.read(PYTHON_CHANNEL, json.dumps({"namespace": "/", **fields}).encode())


def official(*arguments: Any, rooms: Any = (), **fields: Any) -> Command:
    """What it makes of an event of the official emitter's."""
    packet = {"type": 2, "data": list(arguments), "nsp": "/"} | fields
    envelope = ["emitter", packet, {"rooms": list(rooms), "flags": {}, "except": ["b"]}]
    return reader.read(f"{BROADCAST_CHANNEL}a#", msgpack.packb(envelope, datetime=True))


def request(**fields: Any) -> Command:
    """What it makes of a request of the official emitter's."""
    return reader.read(REQUEST_CHANNEL, json.dumps({"opts": {"rooms": ["a"], "except": []}, **fields}).encode())


def reason(call: Any, *args: Any, **fields: Any) -> str:
    """Why something is dropped."""
    with pytest.raises(Dropped) as dropped:
        call(*args, **fields)
    return str(dropped.value.reason)


def test_what_the_emitters_send() -> None:
    """Each method of both, as the command it stands for."""
    assert python(method="emit", event="e", data=[{"a": 1}], room=None) == Emit(EVERYBODY, b'42["e",{"a":1}]')
    assert python(method="emit", event="e", data="x", room="a", skip_sid="b") == Emit(
        Target(("a",), frozenset("b")), b'42["e","x"]'
    )
    assert python(method="emit", event="e", data=[[]], room=[]) == Emit(Target(()), b'42["e",[]]')
    assert python(method="enter_room", sid="s", room="a") == Join(Target(("s",)), ("a",))
    assert python(method="leave_room", sid="s", room="a") == Leave(Target(("s",)), ("a",))
    assert python(method="close_room", room="a") == Leave(Target(("a",)), ("a",))
    assert python(method="disconnect", sid="s") == Disconnect(Target(("s",)))
    assert official("e", 1.5, rooms=["a", "c", "a"]) == Emit(Target(("a", "c"), frozenset("b")), b'42["e",1.5]')
    assert official("e") == Emit(Target(None, frozenset("b")), b'42["e",null]')
    assert request(type=2, rooms=["x", "y"]) == Join(Target(("a",)), ("x", "y"))
    assert request(type=3, rooms=["x"]) == Leave(Target(("a",)), ("x",))
    assert request(type=4, close=True, opts={"rooms": []}) == Disconnect(EVERYBODY)


def test_nobody_is_everybody_only_by_an_empty_list() -> None:
    """A request that does not say for whom it is, is for nobody."""
    assert reason(request, type=4, opts={}) == "malformed"
    refused: list[object] = [None, 0, [1], {}, [None]]
    for rooms in refused:
        assert reason(request, type=4, opts={"rooms": rooms}) == "malformed"
    assert reason(python, method="emit", event="e", data=1, room=0) == "malformed"
    many = {"method": "emit", "event": "e", "data": 1, "room": ["a"] * (MAX_NAMES + 1)}
    assert reason(large_reader.read, PYTHON_CHANNEL, orjson.dumps(many)) == "malformed"


@pytest.mark.parametrize("event", ["message:received", *packets.RESERVED_EVENTS])
def test_names_that_are_not_theirs(event: str) -> None:
    """Refused and reserved names are dropped, from either emitter."""
    assert reason(python, method="emit", event=event, data=[1]) == "event"
    assert reason(official, event, 1) == "event"


def test_memberships_that_are_not_theirs() -> None:
    """Nobody is moved in or out of a protected room, also not along with others; long names are none."""
    for room in ("user:a", "room:b", "r" * 257):
        assert reason(python, method="enter_room", sid="s", room=room) == "room"
        assert reason(python, method="leave_room", sid="s", room=room) == "room"
        assert reason(python, method="close_room", room=room) == "room"
        assert reason(request, type=2, rooms=["x", room]) == "room"
        assert reason(request, type=3, rooms=[room]) == "room"


def test_what_is_no_one_json_argument() -> None:
    """More than one, binary, NaN, nested deeper than 32, not text: dropped."""
    deep: Any = 1
    for _ in range(31):
        deep = [deep]
    assert isinstance(official("e", deep), Emit)
    assert isinstance(python(method="emit", event="e", data=[deep]), Emit)
    for argument in ([deep], b"x", [math.nan], {"x": {"y": [math.inf]}}, -math.inf, msgpack.ExtType(5, b"x"), {1: 2}):
        assert reason(official, "e", argument) in ("argument", "malformed")
    assert reason(official, "e", 1, 2) == reason(python, method="emit", event="e", data=[1, 2]) == "argument"
    assert reason(python, method="emit", event="e", data=[[deep]]) == "argument"
    assert reason(python, method="emit", event="e", data=[{}], binary=True) == "argument"
    assert reason(python, method="emit", event="e", data=[math.nan]) == "malformed"
    assert reason(python, method="emit", event="e", data=["\ud800"]) == "malformed"
    assert reason(official, "e", 1, type=5) == "argument"


def test_other_namespaces_callbacks_and_questions() -> None:
    """What this server does not have is dropped by its own reason."""
    assert reason(python, method="emit", event="e", data=[1], namespace="/x") == "namespace"
    assert reason(python, method="emit", event="e", data=[1], namespace=["/"]) == "namespace"
    assert reason(official, "e", 1, nsp="/x") == "namespace"
    assert reason(python, method="emit", event="e", data=[1], callback=["a", "/", 1]) == "unsupported"
    assert reason(python, method="callback") == reason(official, "e", 1, id=3) == "unsupported"
    for kind in (0, 1, 5, 6, 7, 99):
        assert reason(request, type=kind) == "unsupported"
    assert reason(request, type=2) == "unsupported"


def test_the_largest_event() -> None:
    """An event may be as large as a client's, however it is written on the channel."""
    room_for = MAX_PAYLOAD - len('42["e",""]')
    for text in ("é" * (room_for // 2), "x" * room_for, "😀" * (room_for // 4)):
        assert isinstance(python(method="emit", event="e", data=[text]), Emit)
        assert isinstance(official("e", text), Emit)
        assert reason(python, method="emit", event="e", data=[text + "xxxx"]) == "too_large"
        assert reason(official, "e", text + "xxxx") == "too_large"
    assert reason(official, "e", "\x01" * (MAX_PAYLOAD // 2)) == "too_large"
    assert reason(reader.read, PYTHON_CHANNEL, b" " * 4 * MAX_PAYLOAD) == "too_large"


def test_pickles_are_counted_as_such() -> None:
    """What a python-socketio of old sends is told from garbage, and not looked into."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        body = pickle.dumps({"method": "emit", "event": "e", "data": 1}, protocol)
        assert reason(reader.read, PYTHON_CHANNEL, body) == "pickled"
    assert reason(reader.read, PYTHON_CHANNEL, pickle.dumps({}, 0)) == "malformed"


def test_arrays_that_promise_too_much_cost_nothing() -> None:
    """Nested announcements of large arrays are seen before room is made for them; true arrays of any kind pass."""
    bombs = [b"\xdd\x00\x00\x27\x10" * 500, b"\xdc\x27\x10" * 900, b"\xc4\x02\xdc\x01\xdd\x00\x00\x27\x10" * 400]
    tracemalloc.start()
    for bomb in bombs:
        assert reason(large_reader.read, BROADCAST_CHANNEL, bomb) == "malformed"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000  # by the decoder alone 40 MB

    for value in ([[1] * 300] * 200, [0.1 + n for n in range(9_000)], "ܐݎ" * 50_000, {"m": [list(range(9_999))] * 9}):
        envelope = ["emitter", {"type": 2, "data": ["e", value], "nsp": "/"}, {"rooms": []}]
        command = large_reader.read(BROADCAST_CHANNEL, msgpack.packb(envelope))
        assert isinstance(command, Emit)
        assert orjson.loads(command.payload[2:]) == ["e", value]


channels = st.sampled_from([PYTHON_CHANNEL, REQUEST_CHANNEL, BROADCAST_CHANNEL, f"{BROADCAST_CHANNEL}x#"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["/", "e", "emit", "enter_room", "leave_room", "close_room", "disconnect", "user:x", 2, 3, 4])
)
names = st.text(max_size=3) | st.sampled_from(
    ["method", "event", "data", "room", "rooms", "sid", "skip_sid", "namespace", "nsp", "type", "opts", "except", "id"]
)
values = st.recursive(
    scalars | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
    max_leaves=20,
)
likely = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("event", "data", "room", "sid", "skip_sid", "namespace", "binary"), scalars | values)
    | {"method": st.sampled_from(["emit", "enter_room", "leave_room", "close_room", "disconnect", "callback"])},
)
envelopes = st.tuples(
    scalars,
    st.fixed_dictionaries({"type": st.just(2) | scalars, "data": st.lists(st.just("e") | values, max_size=3)}),
    st.fixed_dictionaries({}, optional={"rooms": values | st.lists(st.text(max_size=2)), "except": values}),
).map(list)


def check(channel: str, body: bytes) -> None:
    """A command that keeps the rules comes out, or Dropped."""
    try:
        command = reader.read(channel, body)
    except Dropped:
        return
    if isinstance(command, Emit):
        incoming = packets.decode(command.payload[1:], Limits())
        assert len(command.payload) <= MAX_PAYLOAD
        assert len(incoming.data) == 2
        assert incoming.data[0] != "message:received"
    elif not isinstance(command, Disconnect):
        assert not any(reader.is_protected(room) for room in command.rooms)
    rooms = command.target.rooms
    assert rooms is None or all(isinstance(room, str) for room in rooms)


@given(channels, st.binary(max_size=200))
def test_any_bytes(channel: str, body: bytes) -> None:
    """No bytes make it raise anything but Dropped."""
    check(channel, body)


@given(channels, values | likely | envelopes)
def test_any_values(channel: str, value: Any) -> None:
    """Nor does anything that is well formed in either encoding."""
    check(channel, msgpack.packb(value))
    check(channel, json.dumps(value, default=repr).encode())
    check(channel, pickle.dumps(value))
