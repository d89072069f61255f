"""The end of a connection: RFC 6455's closing handshake, Engine.IO's CLOSE packet, and clients that just vanish."""

import asyncio

import pytest

from tests.conformance.websocket import CLOSE, CONTINUATION, TEXT, WebSocket, close_frame, frame
from tests.conformance.wire import Polling, Wire

EVENT = '421["room:list"]'


@pytest.mark.parametrize(
    "code", [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
async def test_close_is_answered(websocket: WebSocket, code: int) -> None:
    """A CLOSE is answered with its own code or 1000, and the server ends the TCP connection."""
    websocket.write(close_frame(code, "tschüß".encode()))
    assert await websocket.close_code(seconds=3) in (code, 1000)
    assert await websocket.connection.ended(seconds=3) == b""


async def test_close_without_a_code(websocket: WebSocket) -> None:
    """The code may be left out."""
    websocket.write(close_frame())
    assert await websocket.close_code(seconds=3) in (None, 1000)
    assert await websocket.connection.ended(seconds=3) == b""


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
async def test_bad_close_codes(websocket: WebSocket, code: int) -> None:
    """A code that must not be on the wire is a protocol error (7.4)."""
    websocket.write(close_frame(code))
    assert await websocket.close_code(seconds=3) == 1002
    assert await websocket.connection.ended(seconds=3) == b""


async def test_half_a_close_code(websocket: WebSocket) -> None:
    """A code takes two bytes (5.5.1)."""
    websocket.write(frame(b"\x03", CLOSE))
    assert await websocket.close_code(seconds=3) == 1002


async def test_a_close_reason_that_is_no_text(websocket: WebSocket) -> None:
    """The reason is UTF-8 (5.5.1)."""
    websocket.write(close_frame(1000, b"\xff\xfe"))
    assert await websocket.close_code(seconds=3) in (1002, 1007)


async def test_what_comes_after_close_is_ignored(websocket: WebSocket) -> None:
    """Events behind a CLOSE, in the same segment, are not served; nor is a second CLOSE answered."""
    websocket.write(close_frame(1000) + frame(EVENT) + close_frame(1000))
    packets, code = await websocket.farewell(seconds=3)
    assert (packets, code) == ([], 1000)
    assert await websocket.connection.ended(seconds=3) == b""


async def test_close_amid_fragments(websocket: WebSocket) -> None:
    """A CLOSE may come between the fragments of a message, which is then never served."""
    websocket.write(frame(EVENT.encode(), TEXT, fin=False) + close_frame(1001) + frame(b"", CONTINUATION))
    packets, code = await websocket.farewell(seconds=3)
    assert packets == []
    assert code in (1000, 1001)


async def test_events_before_close_take_effect(wire: Wire, token: str) -> None:
    """What was sent before CLOSE is not lost with the connection."""
    websocket = await wire.websocket(token)
    websocket.write(frame('421["room:create",{"kind":"group","title":"last words"}]') + close_frame(1000))
    await websocket.close_code(seconds=3)
    again = await wire.websocket(token)
    titles: list[str] = []
    async with asyncio.timeout(5):
        while titles != ["last words"]:
            await again.send('421["room:list"]')
            titles = [room["title"] for room in (await again.ack(1))[0]["rooms"]]


async def test_a_client_that_never_hangs_up(websocket: WebSocket) -> None:
    """After its CLOSE the server ends the TCP connection itself, also when the client does not answer."""
    await websocket.send("1")
    assert (await websocket.frame()).close_code == 1000
    assert await websocket.connection.ended(seconds=3) == b""


@pytest.mark.parametrize("how", ["abort", "half-close"])
async def test_vanishing_ends_the_session(wire: Wire, token: str, how: str) -> None:
    """Without a closing handshake the session ends as soon as the network says so."""
    websocket = await wire.upgrade()
    sid = (await websocket.opened())["sid"]
    await websocket.connect(token)
    if how == "abort":
        websocket.connection.abort()
    else:
        websocket.connection.end_writing()
        await websocket.connection.ended(seconds=3)
    await wire.forgets(sid)


async def test_close_packet_by_websocket(wire: Wire, websocket: WebSocket) -> None:
    """Engine.IO's CLOSE ends the connection at once; packets behind it are not served."""
    websocket.write(frame("1") + frame(EVENT))
    packets, code = await websocket.farewell(seconds=3)
    assert (packets, code) == ([], 1000)


async def test_close_packet_by_polling(wire: Wire) -> None:
    """Engine.IO's CLOSE in a POST ends the session: a waiting poll comes back with NOOP, the next one is refused."""
    polling = await wire.polling()
    waiting = await wire.waiting_poll(polling)
    await polling.send("1")
    response = await waiting.response()
    assert (response.status, response.text) == (200, "6")
    refused = await polling.poll()
    assert refused.status == 400, refused
    assert refused.json["code"] == 1


async def test_nothing_is_served_after_a_close_packet(polling: Polling) -> None:
    """Packets behind CLOSE are not served, neither in the same payload nor in the next one, which is refused."""
    await polling.post("1", EVENT)
    assert (await polling.post(EVENT)).status == 400
    assert "431[" not in (await polling.poll()).text


async def test_polling_goes_on_over_many_connections(wire: Wire, polling: Polling) -> None:
    """A session does not end with the TCP connection of a request that was answered."""
    for _ in range(3):
        assert await polling.is_served()
    connection = await wire.connection()
    connection.write(connection.request_bytes("GET", "/no-such-path"))
    connection.abort()
    assert await polling.is_served()
