"""Engine.IO protocol 4, HTTP long-polling: payloads both ways, and which faults end the session at once."""

import base64
import json

import pytest

from tests.conformance.wire import SEPARATOR, Polling, Wire

EVENT = '421["room:list"]'
MAX_PAYLOAD_BYTES = 1_000_000
BINARY_EVENT = '451-1["no:such",{"_placeholder":true,"num":0}]'
GOODBYE = ['42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]', "41", "1"]


# --- payloads ------------------------------------------------------------------------------------------------------


async def test_a_post_is_answered_ok(polling: Polling) -> None:
    """A POST that was taken says `ok`, whatever the server's answers to its packets."""
    response = await polling.post("3")
    assert (response.status, response.text) == (200, "ok")
    assert response.media_type in ("text/html", "text/plain")


async def test_a_poll_is_plain_text(polling: Polling) -> None:
    """A poll brings text in UTF-8 that no cache keeps long enough to matter: its length is known."""
    await polling.send(EVENT)
    response = await polling.poll()
    assert response.headers["content-type"].lower() == "text/plain; charset=utf-8"
    assert response.text.startswith("431[")


async def test_a_poll_waits(wire: Wire, polling: Polling) -> None:
    """A GET without anything to fetch waits until there is something."""
    waiting = await wire.waiting_poll(polling)
    await polling.send(EVENT)
    assert (await waiting.response()).text.startswith("431[")


async def test_several_packets_in_a_post(polling: Polling) -> None:
    """Packets in a payload are separated by U+001E, and taken in order."""
    await polling.send("3", EVENT, '422["room:list"]', "3", '423["room:list"]')
    packets = await polling.until("433[")
    assert [packet[:4] for packet in packets] == ["431[", "432[", "433["]


@pytest.mark.parametrize("text", ["ä€😀", "\u2028\u2029", "\x7f\x80", "1\\u001e2"])
async def test_text_is_utf8(polling: Polling, text: str) -> None:
    """What is not ASCII passes both ways; a separator inside a string is escaped as JSON asks."""
    await polling.send('421["room:create",{"kind":"group"}]')
    created = (await polling.until("431["))[-1]
    room_id = json.loads(created[3:])[0]["room"]["roomId"]
    sent = json.dumps(["message:send", {"roomId": room_id, "text": "=" + text}], ensure_ascii=False)
    await polling.send("422" + sent.replace("\\\\", "\\"))
    answer = (await polling.until("432["))[-1]
    expected = json.loads('"' + text + '"')
    assert json.loads(answer[3:])[0]["message"]["text"] == "=" + expected


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, 10_000])
async def test_binary_is_base64(polling: Polling, size: int) -> None:
    """An attachment in a payload is a packet of its own: `b` and base64 with its padding."""
    await polling.send("3", BINARY_EVENT, "b" + base64.b64encode(bytes(size)).decode(), '422["room:list"]')
    packets = await polling.until("432[")
    assert "UNKNOWN_EVENT" in packets[0]
    assert '"success":true' in packets[1]


async def test_an_attachment_may_come_in_the_next_post(polling: Polling) -> None:
    """Payloads are pieces of one stream of packets."""
    await polling.send(BINARY_EVENT)
    await polling.send("bAQIDBA==")
    assert "UNKNOWN_EVENT" in (await polling.get())[0]


@pytest.mark.parametrize("content_type", [None, "text/plain", "text/plain;charset=UTF-8", "application/octet-stream"])
async def test_the_content_type_makes_no_difference(wire: Wire, polling: Polling, content_type: str | None) -> None:
    """Browsers, fetch() and other libraries label the same payload differently."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = await wire.request("POST", polling.target, headers, EVENT.encode())
    assert (response.status, response.text) == (200, "ok")
    assert (await polling.get())[0].startswith("431[")


# --- bodies --------------------------------------------------------------------------------------------------------


def chunked(body: bytes, size: int) -> bytes:
    """The body in chunks of this size."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def padded(size: int) -> str:
    """An event of exactly this many bytes."""
    return EVENT[:-1] + " " * (size - len(EVENT)) + "]"


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_a_chunked_post(wire: Wire, polling: Polling, size: int) -> None:
    """A body may come in chunks instead of with its length."""
    payload = SEPARATOR.join([padded(300), '422["room:list"]']).encode()
    connection = await wire.begin("POST", polling.target, {"Transfer-Encoding": "chunked"}, chunked(payload, size))
    assert (await connection.response()).text == "ok"
    assert [packet[:4] for packet in await polling.until("432[")] == ["431[", "432["]


async def test_a_slow_post(wire: Wire, polling: Polling) -> None:
    """A body that comes byte by byte is one payload; a poll meanwhile is not held up."""
    body = f"3{SEPARATOR}{EVENT}".encode()
    connection = await wire.begin("POST", polling.target, {"Content-Length": str(len(body))})
    await wire.write_in_pieces(connection, *(bytes([byte]) for byte in body[:-1]))
    waiting = await wire.waiting_poll(polling)
    connection.write(body[-1:])
    assert (await connection.response()).text == "ok"
    assert (await waiting.response()).text.startswith("431[")


@pytest.mark.parametrize("transfer", ["length", "chunks"])
async def test_exactly_the_maximum(wire: Wire, polling: Polling, transfer: str) -> None:
    """maxPayload bytes are taken."""
    body = padded(MAX_PAYLOAD_BYTES).encode()
    headers = {"Content-Length": str(len(body))} if transfer == "length" else {"Transfer-Encoding": "chunked"}
    connection = await wire.connection()
    connection.write(connection.request_bytes("POST", polling.target, headers))
    connection.write(body if transfer == "length" else chunked(body, 65_536))
    assert (await connection.response()).text == "ok"
    assert (await polling.get())[0].startswith("431[")


@pytest.mark.parametrize("transfer", ["length", "chunks"])
async def test_too_large_a_post(wire: Wire, polling: Polling, transfer: str) -> None:
    """One byte more is 413, and the session is over, after a word of why."""
    body = padded(MAX_PAYLOAD_BYTES + 1).encode()
    headers = {"Content-Length": str(len(body))} if transfer == "length" else {"Transfer-Encoding": "chunked"}
    connection = await wire.connection()
    connection.write(connection.request_bytes("POST", polling.target, headers))
    connection.write(body if transfer == "length" else chunked(body, 65_536))
    assert (await connection.response()).status == 413
    assert await polling.get() == GOODBYE


async def test_an_announced_body_is_not_waited_for(wire: Wire, polling: Polling) -> None:
    """A Content-Length beyond the limit is refused before a terabyte has come."""
    connection = await wire.begin(
        "POST", polling.target, {"Content-Length": str(10**12)}, b"4" * (MAX_PAYLOAD_BYTES + 1)
    )
    assert (await connection.response()).status == 413


async def test_a_thousand_packets(polling: Polling) -> None:
    """A stock client's offline buffer leaves as one POST: 1,000 packets are taken, in order."""
    await polling.send(*(f'42{number}["no:such"]' for number in range(1, 1_001)))
    packets = await polling.until("431000[")
    assert [int(packet[2 : packet.index("[")]) for packet in packets] == list(range(1, 1_001))


async def test_more_packets_than_that(polling: Polling) -> None:
    """1,001 packets in a POST are 400, none of them is served, and the session is over."""
    response = await polling.post(*(f'42{number}["room:list"]' for number in range(1_001)))
    assert (response.status, response.json) == (400, {"code": 3, "message": "Bad request"})
    assert await polling.get() == GOODBYE
