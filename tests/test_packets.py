"""Socket.IO packets: every text is read or refused, never anything else, and read as python-socketio reads it."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from socketio.packet import Packet as StockPacket

from realtime import packets
from realtime.packets import Incoming, MalformedPacket, decode, parse_json, reconstruct

NAMESPACES = ["/", "/admin", "/a/b-c"]

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name not in packets.RESERVED_EVENTS
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)
ack_ids = st.none() | st.integers(0, 10**15)
pieces = st.sampled_from(
    [
        *"01234567-/,?[]{}:a ä",
        '"',
        "\n",
        "\x00",
        "\\u",
        "d800",
        "1-",
        "NaN",
        "null",
        "true",
        "1e400",
        '"x"',
        '"connect"',
    ]
)
noise = st.binary(max_size=40) | st.lists(pieces, max_size=14).map(lambda parts: "".join(parts).encode())


def stock(text: bytes) -> StockPacket | None:
    """What python-socketio makes of it."""
    try:
        return StockPacket(encoded_packet=text.decode())
    except Exception:
        return None


@given(
    kind=st.sampled_from([packets.EVENT, packets.ACK]), namespace=st.sampled_from(NAMESPACES), ack_id=ack_ids,
    name=names, arguments=st.lists(json_values, max_size=3),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_what_stock_clients_send_is_read_alike(
    kind: int, namespace: str, ack_id: int | None, name: str, arguments: list[Any]
) -> None:
    """Packets that python-socketio writes come out as they went in."""
    data = [name, *arguments] if kind == packets.EVENT else arguments
    ack_id = 7 if kind == packets.ACK and ack_id is None else ack_id
    text = StockPacket(kind, data=data, namespace=namespace, id=ack_id, binary=False).encode()
    assert isinstance(text, str)
    assert decode(text.encode()) == Incoming(kind, namespace, ack_id, data, 0)


@given(name=names, attachments=st.lists(st.binary(max_size=8), min_size=1, max_size=10), value=json_values)
@settings(max_examples=100, deadline=None)
def test_attachments_come_back_in_their_places(name: str, attachments: list[bytes], value: Any) -> None:
    """A binary event that python-socketio writes is put together again as it was."""
    text, *parts = StockPacket(packets.EVENT, data=[name, {"a": attachments, "b": value}], id=3).encode()
    incoming = decode(text.encode())
    assert (incoming.type, incoming.attachments, incoming.id) == (packets.BINARY_EVENT, len(attachments), 3)
    if not _has_placeholder(value):
        assert reconstruct(incoming.data, parts) == [name, {"a": attachments, "b": value}]


def _has_placeholder(value: Any) -> bool:
    return "_placeholder" in json.dumps(value)


@given(text=noise)
@settings(max_examples=400, deadline=None)
@example(b"")
@example(b"2")
@example(b'2["a",1e400]')
@example(b'2["\\ud800"]')
@example(b'2\xff\xfe[\x00"\x00a\x00"\x00]\x00')
@example(b'2[\x00"\x00a\x00"\x00]\x00')
@example(b"5" + b"1" * 50)
@example(b'2/a?b=c,["x"]')
@example(b"0/a")
def test_anything_is_read_or_refused(text: bytes) -> None:
    """No bytes raise anything but MalformedPacket; what is read has the shape of its type, and stock agrees on it."""
    try:
        incoming = decode(text)
    except MalformedPacket:
        return
    assert incoming.namespace.startswith("/")
    if incoming.type in (packets.EVENT, packets.BINARY_EVENT):
        assert isinstance(incoming.data[0], str)
        assert incoming.data[0] not in packets.RESERVED_EVENTS
    if incoming.type in (packets.ACK, packets.BINARY_ACK):
        assert incoming.id is not None
        assert isinstance(incoming.data, list)
    theirs = stock(text)
    if theirs is not None and theirs.data is not None:
        read = (theirs.packet_type, theirs.namespace or "/", theirs.id, theirs.data, theirs.attachment_count)
        assert read == incoming


@given(value=json_values)
@settings(max_examples=200, deadline=None)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    """The fast reader and the patient one agree."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param('"\\ud800"', "\ud800", id="lone surrogate"),
        pytest.param("1e400", float("inf"), id="beyond a double"),
        pytest.param("1" * 5_000, float("inf"), id="more digits than int takes"),
        pytest.param("-" + "1" * 5_000, float("inf"), id="negative too"),
        pytest.param(str(2**70), 2**70, id="beyond 64 bits"),
        pytest.param("[" * 32 + "]" * 32, json.loads("[" * 32 + "]" * 32), id="32 deep"),
        pytest.param('["' + "[" * 100 + '"]', ["[" * 100], id="brackets in a string"),
    ],
)
def test_odd_json_is_read(text: str, value: Any) -> None:
    """What a field can refuse is read, so that the answer can name the field."""
    assert parse_json(text.encode()) == value


@pytest.mark.parametrize(
    "text",
    [b"NaN", b"[Infinity]", b"[-Infinity]", b"", b"{", b"[1,]", b"'a'", b"\xff", b'"\xc3"', b"[" * 33 + b"]" * 33,
     b'{"a":' * 33 + b"1" + b"}" * 33, b"[" * 200_000, '"a"'.encode("utf-16"), '["a"]'.encode("utf-16-le"),
     b'\xef\xbb\xbf["a"]', b"01", b"1 2"],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: bytes) -> None:
    """Constants that are no JSON, other encodings and endless nesting end in MalformedPacket."""
    with pytest.raises(MalformedPacket):
        parse_json(text)


@pytest.mark.parametrize(
    "data",
    [["x"], ["x", {"_placeholder": True, "num": 1}], ["x", *[{"_placeholder": True, "num": 0}] * 2],
     ["x", {"_placeholder": True, "num": -1}], ["x", {"_placeholder": True, "num": True}],
     ["x", {"_placeholder": True, "num": 0.0}], ["x", {"_placeholder": True}]],
)  # fmt: skip
def test_placeholders_fit_their_attachments(data: list[Any]) -> None:
    """An attachment is used exactly once."""
    with pytest.raises(MalformedPacket):
        reconstruct(data, [b"one"])
