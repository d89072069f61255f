"""RFC 6455 frames as a client may send them: fragments, control frames, lengths, and any division into segments."""

import json

import pytest

from tests.conformance.websocket import BINARY, CONTINUATION, PING, PONG, TEXT, WebSocket, frame
from tests.conformance.wire import Wire

SPREAD = 'aä€😀\x7f\\"\u2028'
"""Characters of one to four bytes, some of them escaped in JSON."""
LIST = '["room:list"]'


def padded(number: int, size: int) -> str:
    """An event with an ack id, filled up with spaces to this many bytes."""
    head, tail = f'42{number}["room:list"', "]"
    return head + " " * (size - len(head) - len(tail)) + tail


def pieces(data: bytes, count: int) -> list[bytes]:
    """The data in this many pieces, the last ones empty when there is not enough of it."""
    size = -(-len(data) // count)
    return [data[start * size : (start + 1) * size] for start in range(count)]


def fragments(text: str, count: int) -> list[bytes]:
    """A text message as the frames of its fragments."""
    parts = pieces(text.encode(), count)
    return [frame(part, CONTINUATION if number else TEXT, fin=number == count - 1) for number, part in enumerate(parts)]


async def new_room(websocket: WebSocket) -> str:
    """A room to send messages to."""
    await websocket.send('4299["room:create",{"kind":"group"}]')
    (answer,) = await websocket.ack(99)
    return str(answer["room"]["roomId"])


def message(number: int, room_id: str, text: str) -> str:
    """A message that comes back whole in its ack."""
    return f"42{number}" + json.dumps(["message:send", {"roomId": room_id, "text": text}], ensure_ascii=False)


async def text_in_ack(websocket: WebSocket, number: int) -> str:
    """The text as the server has understood it."""
    (answer,) = await websocket.ack(number)
    return str(answer["message"]["text"])


@pytest.mark.parametrize("size", [20, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 300_000, 1_000_000])
async def test_every_form_of_the_length(websocket: WebSocket, size: int) -> None:
    """Payloads just below, at and above each limit of the 7-, 16- and 64-bit forms are read whole."""
    await websocket.send(padded(1, size), padded(2, 40))
    assert (await websocket.ack(1))[0]["success"]
    assert (await websocket.ack(2))[0]["success"]


@pytest.mark.parametrize("length_bytes", [2, 8])
async def test_a_length_longer_than_needed(wire: Wire, websocket: WebSocket, length_bytes: int) -> None:
    """Lengths not in their shortest form are taken or refused with 1002, never misread."""
    websocket.write(frame("421" + LIST, length_bytes=length_bytes))
    got = await websocket.frame()
    assert got.payload.startswith(b'431[{"success":true') or got.close_code == 1002 or b"PROTOCOL_ERROR" in got.payload


@pytest.mark.parametrize("mask", [bytes(4), b"\xff\xff\xff\xff", b"\x00\x01\x02\x03", b"\x80\x00\x00\x7f"])
async def test_masking(websocket: WebSocket, mask: bytes) -> None:
    """Any mask on any length, also one that is no multiple of the mask's, comes off cleanly."""
    room_id = await new_room(websocket)
    for number, size in enumerate((1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 2_000), start=1):
        text = (SPREAD * size)[:size]
        websocket.write(frame(message(number, room_id, text), mask=mask))
        assert await text_in_ack(websocket, number) == text, size


@pytest.mark.parametrize("count", [2, 3, 10, 300, 1_200])
async def test_fragments(websocket: WebSocket, count: int) -> None:
    """A message in fragments, cut through its characters, is the message; some of the fragments are empty."""
    text = SPREAD * 100
    for part in fragments(message(1, await new_room(websocket), text), count):
        websocket.write(part)
    assert await text_in_ack(websocket, 1) == text
    assert await websocket.is_served()


async def test_empty_fragments(websocket: WebSocket) -> None:
    """The first and the last fragment may be empty."""
    websocket.write(frame(b"", TEXT, fin=False) + frame(b"421" + LIST.encode(), CONTINUATION, fin=False))
    websocket.write(frame(b"", CONTINUATION))
    assert (await websocket.ack(1))[0]["success"]


async def test_control_frames_between_fragments(wire: Wire, websocket: WebSocket) -> None:
    """A PING amid fragments is answered before the message is whole, a PONG amid them is nothing."""
    text = SPREAD * 10
    parts = fragments(message(1, await new_room(websocket), text), 5)
    for number, part in enumerate(parts[:4]):
        websocket.write(part + frame(b"%d" % number, PING) + frame(b"unasked", PONG))
        answer = await websocket.frame()
        assert (answer.opcode, answer.payload, answer.fin) == (PONG, b"%d" % number, True)
    websocket.write(parts[4])
    assert await text_in_ack(websocket, 1) == text


async def test_fragmented_binary(websocket: WebSocket) -> None:
    """Attachments may be fragmented, too, with a PING between."""
    await websocket.send('451-1["no:such",{"_placeholder":true,"num":0}]')
    websocket.write(frame(b"ab", BINARY, fin=False) + frame(b"x", PING) + frame(b"c", CONTINUATION))
    assert (await websocket.frame()).opcode == PONG
    assert (await websocket.ack(1))[0]["error"]["code"] == "UNKNOWN_EVENT"


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))], ids=["empty", "one byte", "125 bytes"])
async def test_pings_are_answered(websocket: WebSocket, payload: bytes) -> None:
    """A PONG carries the PING's bytes."""
    websocket.write(frame(payload, PING))
    answer = await websocket.frame()
    assert (answer.opcode, answer.payload, answer.fin, answer.rsv) == (PONG, payload, True, 0)


async def test_unasked_pongs_are_ignored(websocket: WebSocket) -> None:
    """A PONG that answers no PING is a heartbeat from the client's side."""
    websocket.write(frame(b"", PONG) + frame(b"hello", PONG))
    assert await websocket.is_served()


async def test_many_pings_are_answered_in_order(websocket: WebSocket) -> None:
    """Pings in one segment are each answered, or the latest only; what follows them is served."""
    websocket.write(b"".join(frame(b"%d" % number, PING) for number in range(50)) + frame("421" + LIST))
    numbers: list[int] = []
    while (got := await websocket.frame()).opcode == PONG:
        numbers.append(int(got.payload))
    assert got.payload.startswith(b"431[")
    assert numbers == sorted(numbers)
    assert numbers[-1] == 49


async def test_many_frames_in_one_segment(websocket: WebSocket) -> None:
    """200 events that arrive together are all served, in order."""
    websocket.write(b"".join(frame(f"42{number}" + LIST) for number in range(1, 201)))
    numbers: list[int] = []
    while len(numbers) < 200:
        packet = await websocket.text()
        numbers.append(int(packet[2 : packet.index("[")]))
    assert numbers == list(range(1, 201))


async def test_frames_in_single_bytes(wire: Wire, websocket: WebSocket) -> None:
    """A stream of all kinds of frames that arrives byte by byte is the same stream."""
    text = SPREAD * 2
    room_id = await new_room(websocket)
    stream = frame("421" + LIST) + frame(b"p", PING) + b"".join(fragments(message(2, room_id, text), 2))
    await wire.write_in_pieces(websocket.connection, *(bytes([byte]) for byte in stream))
    got = [await websocket.frame() for _ in range(2)]
    assert {answer.opcode for answer in got} == {TEXT, PONG}
    assert await text_in_ack(websocket, 2) == text


async def test_frames_cut_anywhere(wire: Wire, websocket: WebSocket) -> None:
    """Wherever a stream of frames is cut in two segments, nothing is lost, doubled or misread."""
    stream = frame("421" + LIST) + frame(b"p" * 3, PING) + frame(padded(2, 130))
    for cut in range(1, len(stream)):
        await wire.write_in_pieces(websocket.connection, stream[:cut], stream[cut:])
        got = [(await websocket.frame()).payload[:4] for _ in range(3)]
        assert sorted(got) == [b"431[", b"432[", b"ppp"], cut


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 14, 15, 100, 1_000, 4_096, 30_000])
async def test_a_large_frame_in_segments_of_any_size(wire: Wire, websocket: WebSocket, size: int) -> None:
    """A frame with a 16-bit length and the small one behind it are read whole from segments of any size."""
    text = SPREAD * min(size * 20, 1_000)
    stream = frame(message(1, await new_room(websocket), text)) + frame("422" + LIST)
    await wire.write_in_pieces(
        websocket.connection, *(stream[start : start + size] for start in range(0, len(stream), size))
    )
    assert await text_in_ack(websocket, 1) == text
    assert (await websocket.ack(2))[0]["success"]


async def test_a_large_frame_header_in_single_bytes(wire: Wire, websocket: WebSocket) -> None:
    """The 64-bit form of the length may come byte by byte, its payload in large pieces."""
    stream = frame(padded(1, 100_000))
    head, rest = stream[:20], stream[20:]
    await wire.write_in_pieces(websocket.connection, *(bytes([byte]) for byte in head), rest[:50_000], rest[50_000:])
    assert (await websocket.ack(1))[0]["success"]
