"""RFC 6455 frames as no client may send them: each ends the connection at once, with the code that says why."""

import struct

import pytest

from tests.conformance.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocket, frame
from tests.conformance.wire import Wire

EVENT = b'421["room:list"]'
PROTOCOL_ERROR = 1002
INVALID_DATA = 1007
TOO_BIG = 1009
CLOSED = '42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]'
MAX_PAYLOAD_BYTES = 1_000_000


async def code_after(websocket: WebSocket, data: bytes) -> int | None:
    """The close code after these bytes; no event in or behind them is served, and the connection ends."""
    websocket.write(data + frame('429["room:list"]'))
    packets, code = await websocket.farewell(seconds=3)
    assert not [packet for packet in packets if packet.startswith("43")]
    await websocket.connection.ended(seconds=3)
    return code


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
async def test_unmasked_frames(websocket: WebSocket, opcode: int) -> None:
    """A client that does not mask is cut off (5.1)."""
    payload = {TEXT: EVENT, CLOSE: b"\x03\xe8"}.get(opcode, b"x")
    assert await code_after(websocket, frame(payload, opcode, mask=None)) == PROTOCOL_ERROR


@pytest.mark.parametrize("rsv", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("opcode", [TEXT, PING])
async def test_reserved_bits(websocket: WebSocket, rsv: int, opcode: int) -> None:
    """No extension was agreed on, so none of the three bits means anything (5.2)."""
    assert await code_after(websocket, frame(EVENT, opcode, rsv=rsv)) == PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF])
async def test_unknown_opcodes(websocket: WebSocket, opcode: int) -> None:
    """Opcodes kept for the future end the connection (5.2)."""
    assert await code_after(websocket, frame(EVENT, opcode)) == PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("size", [126, 65_536])
async def test_long_control_frames(websocket: WebSocket, opcode: int, size: int) -> None:
    """Control frames carry 125 bytes at most (5.5)."""
    assert await code_after(websocket, frame(b"\x03\xe8" + b"x" * (size - 2), opcode)) == PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
async def test_fragmented_control_frames(websocket: WebSocket, opcode: int) -> None:
    """Control frames are never fragmented (5.5)."""
    data = frame(b"\x03\xe8", opcode, fin=False) + frame(b"", CONTINUATION)
    assert await code_after(websocket, data) == PROTOCOL_ERROR


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(64), b"\xff" * 64], ids=["HTTP", "zeros", "ones"]
)
async def test_garbage(websocket: WebSocket, garbage: bytes) -> None:
    """What is no frame at all is no better."""
    websocket.write(garbage)
    assert await websocket.close_code(seconds=3) == PROTOCOL_ERROR


@pytest.mark.parametrize("fin", [True, False])
async def test_a_continuation_of_nothing(websocket: WebSocket, fin: bool) -> None:
    """A CONTINUATION needs a message that it goes on with (5.4)."""
    assert await code_after(websocket, frame(EVENT, CONTINUATION, fin=fin)) == PROTOCOL_ERROR


async def test_a_continuation_of_a_whole_message(websocket: WebSocket) -> None:
    """After its last fragment a message is over (5.4)."""
    websocket.write(frame(EVENT, TEXT, fin=False) + frame(b"", CONTINUATION))
    assert (await websocket.ack(1))[0]["success"]
    assert await code_after(websocket, frame(b"", CONTINUATION)) == PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
async def test_a_new_message_amid_fragments(websocket: WebSocket, opcode: int, fin: bool) -> None:
    """The fragments of one message are not mixed with another message (5.4)."""
    data = frame(b"42", TEXT, fin=False) + frame(EVENT, opcode, fin=fin)
    assert await code_after(websocket, data) == PROTOCOL_ERROR


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xff", id="no lead byte"),
        pytest.param(b"\x80", id="continuation alone"),
        pytest.param(b"\xc3", id="cut short"),
        pytest.param(b"\xc0\xaf", id="overlong slash"),
        pytest.param(b"\xe0\x80\x80", id="overlong null"),
        pytest.param(b"\xed\xa0\x80", id="surrogate"),
        pytest.param(b"\xed\xa0\xbd\xed\xb8\x80", id="surrogate pair"),
        pytest.param(b"\xf4\x90\x80\x80", id="beyond Unicode"),
        pytest.param(b"\xf8\x88\x80\x80\x80", id="five bytes"),
    ],
)
async def test_invalid_utf8(websocket: WebSocket, text: bytes) -> None:
    """Text that is no UTF-8 ends the connection with 1007 (8.1), after a word to the session."""
    websocket.write(frame(b'421["room:list","' + text + b'"]', TEXT))
    packets, code = await websocket.farewell(seconds=3)
    assert (packets, code) == ([CLOSED, "41"], INVALID_DATA)


async def test_invalid_utf8_in_fragments(websocket: WebSocket) -> None:
    """A character may be cut by fragments, but its bytes must fit together."""
    data = frame(b'421["room:list","\xe2\x82', TEXT, fin=False) + frame(b'"]', CONTINUATION)
    assert await code_after(websocket, data) == INVALID_DATA


async def test_binary_is_not_checked(websocket: WebSocket) -> None:
    """Attachments are bytes, not text."""
    await websocket.send('451-1["no:such",{"_placeholder":true,"num":0}]', b"\xff\xc0\x80")
    assert (await websocket.ack(1))[0]["error"]["code"] == "UNKNOWN_EVENT"


@pytest.mark.parametrize("count", [1, 2, 7])
async def test_messages_beyond_the_limit(websocket: WebSocket, count: int) -> None:
    """One byte more than maxPayload, in one frame or in fragments, is 1009, after a word to the session."""
    size = (MAX_PAYLOAD_BYTES + 1) // count + 1
    for number in range(count):
        websocket.write(frame(b"4" * size, CONTINUATION if number else TEXT, fin=number == count - 1))
    packets, code = await websocket.farewell()
    assert (packets, code) == ([CLOSED, "41"], TOO_BIG)


@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES + 1, 2**31, 2**32 + 5, 2**62])
async def test_a_length_beyond_the_limit(websocket: WebSocket, size: int) -> None:
    """The announcement of too long a frame is enough: nothing of it is waited for."""
    websocket.write(b"\x81\xff" + struct.pack("!Q", size) + bytes(4))
    assert await websocket.close_code(seconds=3) == TOO_BIG


async def test_a_negative_length(websocket: WebSocket) -> None:
    """The highest bit of a 64-bit length is always 0 (5.2)."""
    websocket.write(b"\x81\xff" + struct.pack("!Q", 2**63) + bytes(4))
    assert await websocket.close_code(seconds=3) in (PROTOCOL_ERROR, TOO_BIG)


async def test_the_limit_holds_for_each_message(websocket: WebSocket) -> None:
    """Several messages of maxPayload in a row are taken, in fragments or not, with control frames between."""
    text = EVENT[:-1] + b" " * (MAX_PAYLOAD_BYTES - len(EVENT)) + b"]"
    half = len(text) // 2
    for _ in range(2):
        websocket.write(frame(text, TEXT))
        websocket.write(frame(text[:half], TEXT, fin=False) + frame(b"", PONG) + frame(text[half:], CONTINUATION))
    for _ in range(4):
        assert (await websocket.ack(1))[0]["success"]


async def test_broken_before_open(wire: Wire) -> None:
    """It makes no difference that there is no session yet."""
    websocket = await wire.websocket()
    assert await code_after(websocket, frame(b"40", TEXT, rsv=4)) == PROTOCOL_ERROR
