"""Socket.IO protocol 5, events and acks: their forms, and every way in which a packet can be none."""

import json

import pytest

from tests.conformance.websocket import TEXT, WebSocket, frame
from tests.conformance.wire import Polling

CLOSED = '42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]'
RESERVED = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]


@pytest.mark.parametrize("number", [0, 1, 9, 10, 123_456, 2**31, 2**53 - 1])
async def test_ack_ids(websocket: WebSocket, number: int) -> None:
    """An event with an id is answered by an ACK with that id, 0 included."""
    await websocket.send(f'42{number}["room:list"]')
    assert (await websocket.text()).startswith(f'43{number}[{{"success":true')


@pytest.mark.parametrize(
    "packet", ['421["room:list"]', '42/,1["room:list"]', '421 [ "room:list" ,\t{ } ] ', '421["room\\u003alist"]']
)
async def test_forms_of_an_event(websocket: WebSocket, packet: str) -> None:
    """The main namespace may be named, and JSON may be written with spaces and escapes."""
    await websocket.send(packet)
    assert (await websocket.text()).startswith('431[{"success":true')


async def test_an_event_without_an_id(websocket: WebSocket) -> None:
    """No ack was asked for and none comes."""
    await websocket.send('42["room:list"]', '421["room:list"]')
    assert (await websocket.text()).startswith("431[")


async def test_an_id_used_again(websocket: WebSocket) -> None:
    """Ids are the client's own business."""
    await websocket.send('421["room:list"]', '421["room:list"]')
    assert [(await websocket.text())[:4] for _ in range(2)] == ["431[", "431["]


@pytest.mark.parametrize("packet", ["431[]", '43999["x",{"a":1}]', "430[]", f"43{2**53 - 1}[null]"])
async def test_acks_to_unknown_ids(websocket: WebSocket, packet: str) -> None:
    """An ack that the server does not wait for is nothing."""
    await websocket.send(packet)
    assert await websocket.is_served()


@pytest.mark.parametrize("name", ["", "x", "ä€😀", "__proto__", "message", "error", "Connect", "connect ", "*"])
async def test_event_names(websocket: WebSocket, name: str) -> None:
    """Any other string is an event's name."""
    await websocket.send("421" + json.dumps([name], ensure_ascii=False))
    assert (await websocket.ack(1))[0]["error"]["code"] == "UNKNOWN_EVENT"


# --- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("brackets", ["[]", '{"a":}'], ids=["arrays", "objects"])
@pytest.mark.parametrize(("depth", "allowed"), [(32, True), (33, False), (1_000, False), (200_000, False)])
async def test_depth(websocket: WebSocket, brackets: str, depth: int, allowed: bool) -> None:
    """JSON 32 deep is read, the event's own array included; anything deeper ends the connection, not the server."""
    start, end = brackets[:-1], brackets[-1]
    await websocket.send(f'421["no:such",{start * (depth - 1)}1{end * (depth - 1)}]'.replace("[1]", "[]"))
    if allowed:
        assert (await websocket.ack(1))[0]["error"]["code"] == "UNKNOWN_EVENT"
    else:
        assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


@pytest.mark.parametrize(
    "value",
    ["0", "-0", "-0.0", "1e3", "1E+3", "1.5e-300", "1e400", "-1e400", "1e-400", str(2**64), "9" * 5_000, '"\\ud800"'],
)
async def test_odd_values(websocket: WebSocket, value: str) -> None:
    """JSON beyond what a field can hold is still JSON: the event is answered."""
    await websocket.send(f'421["room:list",{{"cursor":{value}}}]')
    assert (await websocket.ack(1))[0]["error"]["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("text", ["ä€😀", "\u2028\u2029", "\x7f", "\ufeff", "\uffff", "\\u0041\\n\\/"])
async def test_text(websocket: WebSocket, text: str) -> None:
    """Any character that UTF-8 has may be in a string."""
    await websocket.send(f'421["no:such","{text}"]')
    assert (await websocket.ack(1))[0]["error"]["code"] == "UNKNOWN_EVENT"


NO_JSON = [
    "NaN", "Infinity", "-Infinity", "undefined", "nil", "True", "01", "1.", ".5", "+1", "0x10", "1_000", "--1", "1e",
    "'x'", '"', '"\n"', '"\t"', '"\\x41"', '"\\u12"', "[1,]", "[,1]", "[1 2]", "{a:1}", '{"a"}', '{"a":1,}', "{1:1}",
    "[", "]", "}", "//x", "/*x*/1", "\x00", "\ufeff1",
]  # fmt: skip


@pytest.mark.parametrize("value", NO_JSON)
async def test_what_is_no_json(websocket: WebSocket, value: str) -> None:
    """Whatever RFC 8259 does not have ends the connection."""
    await websocket.send(f'421["room:list",{value}]')
    assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


# --- packets -------------------------------------------------------------------------------------------------------

MALFORMED = [
    # no type, or none that a client may send
    "4", "4abc", "47", "48", "49", "4-1", "4[]", '4"', "4 2[]", "44", '44{"message":"x"}',
    # EVENT: an array that begins with a string
    "42", "421", "42{}", "42[]", '42"x"', "42null", "42true", "425", "42[1]", "42[null]", "42[true]", "42[{}]",
    '42[["x"]]',
    '42["room:list"', '42["room:list"]]', '42["room:list"]x', '42["room:list"]["x"]', '42-1["room:list"]',
    '42/', '42/["room:list"]', '42,["room:list"]', '42,1["room:list"]', '42x["room:list"]', '421.5["room:list"]',
    # ACK: an id and an array
    "43", "43[]", "431", "431{}", '431"x"', "431null", "431[", "43-1[]", "43x[]",
    # DISCONNECT: nothing
    "41{}", "41[]", "41null1", '41"x"', "411[]",
    # BINARY_EVENT and BINARY_ACK: a count of attachments, too
    "45", '45["x"]', '451["x"]', '45-["x"]', '45x-["x"]', '45-1-["x"]', '451.5-["x"]', "451-", "451-{}", "451-[]",
    "451-[1]", '4511-["x"]', '4599999999999999999999-["x"]', "46", "461-[]", "461-", "46[]", "4611-1[]",
]  # fmt: skip


@pytest.mark.parametrize("packet", MALFORMED)
async def test_malformed_packets(websocket: WebSocket, packet: str) -> None:
    """A packet that the protocol does not have ends the connection: the session hears why, then DISCONNECT."""
    await websocket.send(packet)
    assert await websocket.farewell(seconds=3) == ([CLOSED, "41"], 1000)


@pytest.mark.parametrize("packet", ["4", "4abc", "42[]", "44", "431{}", "45", '42["connect"]', '42["x",NaN]'])
async def test_malformed_packets_by_polling(polling: Polling, packet: str) -> None:
    """By polling the POST is 400, and the next poll brings the same words."""
    assert (await polling.post(packet)).status == 400
    assert await polling.get() == [CLOSED, "41", "1"]


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize(
    "form", ['42["{}"]', '421["{}",{{"token":"x"}}]', '451-1["{}",{{"_placeholder":true,"num":0}}]']
)
async def test_reserved_names(websocket: WebSocket, name: str, form: str) -> None:
    """The names of a client's own happenings are no events."""
    await websocket.send(form.format(name))
    assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


@pytest.mark.parametrize(
    "packet", ["", "0{}", "2", "2probe", "3x", "5", "6", "7", "a", "x" * 1_000, "\x00", "é", "4\x00"]
)
async def test_malformed_engineio_packets(websocket: WebSocket, packet: str) -> None:
    """One layer below, too: types that a client does not send, or that there are not."""
    await websocket.send(packet)
    assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


@pytest.mark.parametrize("packet", ["4abc", '42["x"', "7"])
async def test_nothing_is_served_behind_it(websocket: WebSocket, packet: str) -> None:
    """Events before the malformed packet are served, events behind it are not, though they came together."""
    websocket.write(frame('421["room:list"]') + frame(packet) + frame('422["room:list"]'))
    packets, _ = await websocket.farewell(seconds=3)
    assert [packet for packet in packets if packet.startswith("432")] == []
    assert packets[-2:] == [CLOSED, "41"]


async def test_bytes_that_are_no_text(websocket: WebSocket) -> None:
    """JSON is UTF-8 and nothing else."""
    websocket.write(frame('421["room:list"]'.encode("utf-16"), TEXT))
    assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]
