"""Engine.IO protocol 4, upgrades that fail or come twice: the session stays where it is, and is served there."""

import pytest

from tests.conformance.websocket import WebSocket, close_frame, frame
from tests.conformance.wire import UPGRADE, Polling, Wire, target

EVENT = '421["room:list"]'


@pytest.mark.parametrize("first", ["2", "2prob", "2probe2", "3probe", "5", "40", EVENT, "", b"2probe", "4probe"])
async def test_a_false_probe(wire: Wire, polling: Polling, first: str | bytes) -> None:
    """A websocket that does not begin with the probe is closed, and polling goes on."""
    websocket = await wire.upgrade(polling.sid)
    await websocket.send(first)
    packets, _ = await websocket.farewell(seconds=3)
    assert packets == []
    assert await polling.is_served()


@pytest.mark.parametrize("second", ["2probe", "3", "6", "5x", EVENT, "", b"5", "1"])
async def test_a_false_upgrade(wire: Wire, polling: Polling, second: str | bytes) -> None:
    """Nothing but UPGRADE follows the probe; anything else closes the websocket, and polling goes on."""
    websocket = await wire.probe(polling)
    await websocket.send(second)
    packets, _ = await websocket.farewell(seconds=3)
    assert packets == []
    assert await polling.is_served()


@pytest.mark.parametrize("how", ["close", "abort", "half-close", "broken frame"])
@pytest.mark.parametrize("when", ["before the probe", "after the probe"])
async def test_a_websocket_that_goes(wire: Wire, polling: Polling, how: str, when: str) -> None:
    """A client whose websocket fails while upgrading is still served by polling, and may try again."""
    websocket = await (wire.probe(polling) if when == "after the probe" else wire.upgrade(polling.sid))
    if how == "abort":
        websocket.connection.abort()
    elif how == "half-close":
        websocket.connection.end_writing()
    else:
        websocket.write(close_frame(1000) if how == "close" else frame("5", rsv=4))
    await wire.delivered()
    assert await polling.is_served()
    again = await wire.probe(polling)
    await again.send("5")
    assert await again.is_served()


async def test_a_refused_upgrade(wire: Wire, polling: Polling) -> None:
    """A request that is no websocket handshake changes nothing."""
    bad = {**UPGRADE, "Sec-WebSocket-Key": "short"}
    assert (await wire.request("GET", target("websocket", polling.sid), bad)).status == 400
    assert (await wire.request("GET", target("websocket", polling.sid))).status == 400
    assert await polling.is_served()
    websocket = await wire.probe(polling)
    await websocket.send("5")
    assert await websocket.is_served()


async def test_a_second_upgrade_at_once(wire: Wire, polling: Polling) -> None:
    """While one websocket is probing another gets nowhere, and the first is not disturbed."""
    first = await wire.probe(polling)
    connection = await wire.connection()
    response = await connection.request("GET", target("websocket", polling.sid), UPGRADE)
    if response.status == 101:
        second = WebSocket(connection)
        second.write(frame("2probe") + frame("5") + frame(EVENT))
        assert (await second.farewell(seconds=3))[0] == []
    else:
        assert response.status == 400
    await first.send("5", '422["room:list"]')
    assert (await first.text()).startswith("432[")


async def test_a_second_upgrade_afterwards(wire: Wire, polling: Polling) -> None:
    """An upgraded session is not upgraded again: the newcomer is turned away, the session stays where it is."""
    first = await wire.probe(polling)
    await first.send("5")
    assert await first.is_served()
    connection = await wire.connection()
    response = await connection.request("GET", target("websocket", polling.sid), UPGRADE)
    if response.status == 101:
        assert (await WebSocket(connection).farewell(seconds=3))[0] == []
    assert await first.is_served()


async def test_a_close_packet_while_upgrading(wire: Wire, polling: Polling) -> None:
    """A client that says goodbye by polling ends the session and the websocket that was to take over."""
    websocket = await wire.probe(polling)
    await polling.send("1")
    await websocket.send("5", EVENT)
    packets, _ = await websocket.farewell(seconds=3)
    assert packets == []
    await wire.forgets(polling.sid)


async def test_a_malformed_post_while_upgrading(wire: Wire, polling: Polling) -> None:
    """A broken payload ends the session, whatever is under way."""
    websocket = await wire.probe(polling)
    assert (await polling.post("abc")).status == 400
    await websocket.send("5", EVENT)
    packets, _ = await websocket.farewell(seconds=3)
    assert not [packet for packet in packets if packet.startswith("43")]
    await wire.forgets(polling.sid)
