"""Socket.IO protocol 5, CONNECT, CONNECT_ERROR and DISCONNECT, and what may be said before and after them."""

import json

import pytest

from tests.conformance.websocket import WebSocket, frame
from tests.conformance.wire import Polling, Wire

INVALID_NAMESPACE = '{"message":"Invalid namespace"}'
CLOSED = '42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]'
EVENT = '421["room:list"]'


def auth(token: str) -> str:
    """The payload of CONNECT."""
    return json.dumps({"token": token})


async def test_connect(wire: Wire, token: str) -> None:
    """CONNECT is answered by CONNECT with the session's id, not Engine.IO's, and its pid, ahead of all events."""
    websocket = await wire.upgrade()
    told = await websocket.opened()
    await websocket.send("40" + auth(token))
    packet = await websocket.text()
    assert packet.startswith("40{")
    answer = json.loads(packet[2:])
    assert list(answer) == ["sid", "pid"]
    assert len(answer["sid"]) >= 20
    assert answer["sid"] != told["sid"]
    assert (await websocket.text()).startswith('42["session:ready",{')


@pytest.mark.parametrize("form", ["40{}", "40/,{}", "40/?a=b,{}", "40 {}"], ids=["short", "named", "query", "space"])
async def test_forms_of_connect(wire: Wire, token: str, form: str) -> None:
    """The main namespace may be named; a query behind a namespace is not part of it."""
    websocket = await wire.websocket()
    await websocket.send(form.replace("{}", auth(token)))
    assert (await websocket.text()).startswith('40{"sid":"')
    await websocket.text()
    assert await websocket.is_served()


async def test_connect_by_polling(wire: Wire, token: str) -> None:
    """The same packets pass by polling."""
    polling = await wire.polling()
    await polling.send("40" + auth(token))
    packets = await polling.until('42["session:ready"')
    assert packets[0].startswith('40{"sid":"')
    assert await polling.is_served()


async def test_events_right_behind_connect(wire: Wire, token: str) -> None:
    """A client waits for CONNECT's answer: an event before it ends the connection or is served after it, no third."""
    websocket = await wire.websocket()
    websocket.write(frame("40" + auth(token)) + frame(EVENT))
    first = await websocket.frame()
    if first.payload.startswith(b'40{"sid"'):
        await websocket.ack(1)
    else:
        packets, _ = await websocket.farewell(seconds=3)
        assert not [packet for packet in packets if packet.startswith("43")]


@pytest.mark.parametrize("payload", ["", "{}", '{"token":null}', '{"token":5}', '{"token":"x"}', '{"a":[]}'])
async def test_a_refused_connect(wire: Wire, token: str, payload: str) -> None:
    """CONNECT_ERROR says why, with message and data; the connection lives on, and CONNECT may come again."""
    websocket = await wire.websocket()
    await websocket.send("40" + payload)
    packet = await websocket.text()
    assert packet.startswith("44{")
    error = json.loads(packet[2:])
    assert sorted(error) == ["data", "message"]
    assert isinstance(error["message"], str)
    assert error["data"]["code"] in ("AUTH_REQUIRED", "TOKEN_INVALID")
    await websocket.connect(token)
    assert await websocket.is_served()


@pytest.mark.parametrize("packet", ["40/random", "40/random,", '40/random,{"token":"x"}', "40/random?a=b,"])
async def test_an_unknown_namespace(websocket: WebSocket, packet: str) -> None:
    """It is answered by CONNECT_ERROR with the reference server's words, and the other namespaces live on."""
    await websocket.send(packet)
    assert await websocket.text() == "44/random," + INVALID_NAMESPACE
    assert await websocket.is_served()


async def test_an_unknown_namespace_first(wire: Wire, token: str) -> None:
    """Also before there is any session."""
    websocket = await wire.websocket()
    for name in ("/random", "/a/b-c_d.e", "/ä", "/" + "n" * 100):
        await websocket.send(f"40{name}")
        assert await websocket.text() == f"44{name}," + INVALID_NAMESPACE
    await websocket.connect(token)


@pytest.mark.parametrize("packet", ["40", "40{}", "40/,{}"])
async def test_connect_twice(websocket: WebSocket, packet: str) -> None:
    """A second CONNECT to a namespace breaks the protocol."""
    await websocket.send(packet)
    assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


@pytest.mark.parametrize(
    "packet", [EVENT, '42["x"]', "431[]", '42/random,["x"]', '451-["x",{"_placeholder":true,"num":0}]', "40[]", '40"x"']
)
async def test_before_connect(wire: Wire, packet: str) -> None:
    """Without a session there are no events and no acks, and CONNECT's payload is an object: the connection ends."""
    websocket = await wire.websocket()
    await websocket.send(packet, b"x") if packet.startswith("45") else await websocket.send(packet)
    assert (await websocket.farewell(seconds=3))[0] == []


async def test_before_connect_by_polling(wire: Wire) -> None:
    """The same by polling: 400."""
    polling = await wire.polling()
    assert (await polling.post(EVENT)).status == 400
    await wire.forgets(polling.sid)


@pytest.mark.parametrize("packet", ['42/random,["x"]', '42/random,1["x"]', "43/random,1[]", '451-/random,["x"]'])
async def test_a_namespace_not_connected_to(websocket: WebSocket, packet: str) -> None:
    """A session in one namespace is none in another."""
    await websocket.send(packet)
    if packet.startswith("45"):
        await websocket.send(b"x")
    assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


@pytest.mark.parametrize("packet", ["41", "41/,"])
async def test_disconnect(wire: Wire, websocket: WebSocket, token: str, packet: str) -> None:
    """After DISCONNECT the session is over, without a word from the server; the connection can be used for another."""
    await websocket.send(packet)
    await websocket.connect(token)
    assert await websocket.is_served()


async def test_events_after_disconnect(websocket: WebSocket) -> None:
    """An event for a session that has been left breaks the protocol; there is nobody left to tell."""
    websocket.write(frame("41") + frame(EVENT))
    assert (await websocket.farewell(seconds=3))[0] == []


async def test_disconnect_from_elsewhere(websocket: WebSocket) -> None:
    """DISCONNECT from a namespace that the client is not in ends the connection or is nothing; the session is served
    until then."""
    await websocket.send("41/random", EVENT)
    packets: list[str] = []
    while not packets or not packets[-1].startswith(("43", CLOSED)):
        packets.append(await websocket.text())
    assert packets in ([packets[0]], [CLOSED])


async def test_disconnect_by_polling(wire: Wire, polling: Polling, token: str) -> None:
    """DISCONNECT and a new CONNECT in one payload."""
    await polling.send("41", "40" + auth(token))
    packets = await polling.until('42["session:ready"')
    assert packets[0].startswith('40{"sid":"')


async def test_many_namespaces(wire: Wire, token: str) -> None:
    """A hundred namespaces asked for on one connection are each refused, and none is kept."""
    websocket = await wire.websocket(token)
    websocket.write(b"".join(frame(f"40/n{number}") for number in range(100)))
    assert [await websocket.text() for _ in range(100)] == [
        f"44/n{number},{INVALID_NAMESPACE}" for number in range(100)
    ]
    assert await websocket.is_served()
