"""Engine.IO protocol 4, heartbeat: the server pings, the client answers, on both transports and across an upgrade."""

import secrets
from collections.abc import AsyncIterator

import pytest

from server.embedded import EmbeddedServers
from tests.conformance.websocket import WebSocket, frame
from tests.conformance.wire import Polling, Wire
from tests.nodes import Node

PING_INTERVAL_MS = 150
PING_TIMEOUT_MS = 850
CLOSED = '42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]'


@pytest.fixture(scope="module")
async def server(stores: EmbeddedServers) -> AsyncIterator[Node]:
    """A node that pings often, and gives answers more time than the reference suite: this one runs beside others."""
    intervals = {"PING_INTERVAL_MS": str(PING_INTERVAL_MS), "PING_TIMEOUT_MS": str(PING_TIMEOUT_MS)}
    database = f"test_{secrets.token_hex(8)}"
    node = Node(stores.mongodb_url, stores.redis_url, database, **intervals, RATE_LIMITS="off")
    await node.start()
    yield node
    await node.stop()


async def ping(websocket: WebSocket) -> None:
    """Take the next ping, unanswered."""
    assert (await websocket.frame()).payload == b"2"


async def test_open_says_the_true_intervals(wire: Wire) -> None:
    """OPEN carries the intervals that the server keeps, to the millisecond."""
    for told in ((await wire.polling()).told, await (await wire.upgrade()).opened()):
        assert (told["pingInterval"], told["pingTimeout"]) == (PING_INTERVAL_MS, PING_TIMEOUT_MS)


async def test_pings_by_websocket(websocket: WebSocket) -> None:
    """Whoever answers each ping stays, past interval and timeout together."""
    for _ in range(6):
        await ping(websocket)
        await websocket.send("3")
    assert await websocket.is_served()


async def test_pings_by_polling(polling: Polling) -> None:
    """A ping is a packet like any other, and so is its answer."""
    for _ in range(6):
        assert await polling.get() == ["2"]
        await polling.send("3")
    await polling.send('421["room:list"]')
    assert (await polling.until("431["))[-1].startswith("431[")


async def test_pings_before_connect(wire: Wire) -> None:
    """The heartbeat is Engine.IO's: it needs no Socket.IO session."""
    websocket = await wire.websocket()
    for _ in range(2):
        await ping(websocket)
        await websocket.send("3")


async def test_silence_by_websocket(wire: Wire, token: str) -> None:
    """Without an answer the connection ends after the timeout."""
    websocket = await wire.upgrade()
    sid = (await websocket.opened())["sid"]
    await websocket.connect(token)
    await ping(websocket)
    packets, _ = await websocket.farewell()
    assert packets == []
    await wire.forgets(sid)


async def test_silence_by_polling(wire: Wire) -> None:
    """Without an answer a waiting poll comes back with CLOSE, and the session is unknown from then on."""
    polling = await wire.polling()
    assert await polling.get() == ["2"]
    assert await polling.get() == ["1"]
    for response in (await polling.poll(), await polling.post("3")):
        assert response.status == 400, response
        assert response.json["code"] == 1


async def test_nobody_polls(wire: Wire) -> None:
    """A polling client that has gone away is forgotten, too."""
    polling = await wire.polling()
    await wire.forgets(polling.sid)
    assert (await polling.poll()).status == 400


async def test_only_a_pong_counts(websocket: WebSocket) -> None:
    """Neither events nor websocket pings nor a pong ahead of the ping stand in for the answer."""
    websocket.write(frame("3"))
    pings = 0
    while pings < 2:
        websocket.write(frame('421["room:list"]') + frame(b"", 0x9))
        try:
            while (got := await websocket.frame()).opcode != 0xA:
                pings += got.payload == b"2"
                if got.opcode == 0x8:
                    break
        except (EOFError, ConnectionError):
            break
        if got.opcode == 0x8:
            break
    assert pings == 1


@pytest.mark.parametrize("packet", ["2", "2probe", "2x"])
async def test_a_client_does_not_ping_by_websocket(websocket: WebSocket, packet: str) -> None:
    """In this version of the protocol the client's ping is an error."""
    await websocket.send(packet)
    packets, _ = await websocket.farewell(seconds=3)
    assert [packet for packet in packets if packet != "2"] == [CLOSED, "41"]


async def test_a_client_does_not_ping_by_polling(polling: Polling) -> None:
    """Nor by polling."""
    assert (await polling.post("2")).status == 400
    assert [packet for packet in await polling.get() if packet != "2"] == [CLOSED, "41", "1"]


async def test_a_ping_answered_after_the_upgrade(wire: Wire, polling: Polling) -> None:
    """The ping came by polling, its answer goes by websocket, and the heartbeat goes on there."""
    assert await polling.get() == ["2"]
    websocket = await wire.upgrade(polling.sid)
    await websocket.send("2probe")
    assert (await websocket.frame()).payload == b"3probe"
    await websocket.send("5", "3")
    for _ in range(3):
        await ping(websocket)
        await websocket.send("3")


async def test_silence_while_upgrading(wire: Wire) -> None:
    """A websocket that probes keeps no session alive."""
    polling = await wire.polling()
    websocket = await wire.upgrade(polling.sid)
    await websocket.send("2probe")
    assert (await websocket.frame()).payload == b"3probe"
    await wire.forgets(polling.sid)
    await websocket.send("5")
    await websocket.farewell(seconds=3)
