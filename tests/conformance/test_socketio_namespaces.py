"""Socket.IO protocol 5, several namespaces over one connection, on a server that has some."""

import asyncio
import json
from typing import Any

import pytest

from tests.conformance.standalone import Standalone
from tests.conformance.websocket import WebSocket, frame
from tests.conformance.wire import Polling

GOODBYE = '["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]'


@pytest.fixture
def custom(alone: Standalone) -> Standalone:
    """The server with a namespace `/custom`, which sends back the auth and acks `echo` with its name in front."""

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        await alone.server.emit("auth", auth, namespace="/custom", to=sid)

    async def echo(sid: str, *args: Any) -> Any:
        return "custom", *args

    alone.server.on("connect", connect, namespace="/custom")
    alone.server.on("echo", echo, namespace="/custom")
    return alone


async def join(websocket: WebSocket, packet: str = '40/custom,{"a":1}', auth: str = ',{"a":1}') -> str:
    """CONNECT to `/custom`; returns the session's id."""
    await websocket.send(packet)
    connected = await websocket.text()
    assert connected.startswith('40/custom,{"sid":"')
    assert await websocket.text() == f'42/custom,["auth"{auth}]'
    return str(json.loads(connected.removeprefix("40/custom,"))["sid"])


@pytest.mark.parametrize(
    ("packet", "auth"),
    [
        ("40/custom", ""),
        ("40/custom,", ""),
        ("40/custom,{}", ",{}"),
        ('40/custom,{"token":"abc"}', ',{"token":"abc"}'),
        ("40/custom?token=abc,", ""),
        ('40/custom?token=abc&x=y,{"z":[]}', ',{"z":[]}'),
    ],
)
async def test_connect(custom: Standalone, alone_websocket: WebSocket, packet: str, auth: str) -> None:
    """CONNECT to a namespace, with and without a payload; what the handler sends comes behind its answer."""
    await join(alone_websocket, packet, auth)


async def test_sessions_are_apart(custom: Standalone, alone_websocket: WebSocket) -> None:
    """Each namespace has a session of its own, with events and ack ids of its own."""
    sid = await join(alone_websocket)
    ((main_sid, _),) = custom.server.manager.get_participants("/", None)
    assert sid != main_sid
    await alone_websocket.send('42/custom,1["echo",1]', '421["echo",2]', '42/custom,1["echo",3]')
    answers = {await alone_websocket.text() for _ in range(3)}
    assert answers == {'43/custom,1["custom",1]', "431[2]", '43/custom,1["custom",3]'}
    await custom.server.emit("n", 1)
    await custom.server.emit("n", 2, namespace="/custom")
    assert [await alone_websocket.text() for _ in range(2)] == ['42["n",1]', '42/custom,["n",2]']


async def test_acks_are_apart(custom: Standalone, alone_websocket: WebSocket) -> None:
    """An ack in one namespace answers no question asked in another."""
    sid = await join(alone_websocket)
    asking = asyncio.create_task(custom.server.call("ask", namespace="/custom", to=sid, timeout=5))
    packet = await alone_websocket.text()
    ack_id = packet.removeprefix("42/custom,").partition("[")[0]
    assert packet == f'42/custom,{ack_id}["ask"]'
    await alone_websocket.send(f'43{ack_id}["wrong"]', f'43/custom,{ack_id}["right"]')
    assert await asking == "right"


async def test_disconnect_from_one(custom: Standalone, alone_websocket: WebSocket) -> None:
    """DISCONNECT from a namespace leaves the others; it may be connected to again."""
    first = await join(alone_websocket)
    await alone_websocket.send("41/custom,", '421["echo"]')
    assert await alone_websocket.text() == "431[]"
    assert await join(alone_websocket) != first


@pytest.mark.parametrize("packet", ['42/custom,["echo"]', "43/custom,1[]", '42/custom,7["echo"]'])
async def test_events_after_disconnect(custom: Standalone, alone_websocket: WebSocket, packet: str) -> None:
    """An event for a namespace that the client has left breaks the protocol; those that are left hear of it."""
    await join(alone_websocket)
    alone_websocket.write(frame("41/custom,") + frame(packet))
    assert (await alone_websocket.farewell(seconds=3))[0] == ["42" + GOODBYE, "41"]


async def test_disconnect_from_the_main_namespace(custom: Standalone, alone_websocket: WebSocket) -> None:
    """The main namespace is one like the others: leaving it leaves the others alone."""
    await join(alone_websocket)
    await alone_websocket.send("41", '42/custom,1["echo"]')
    assert await alone_websocket.text() == '43/custom,1["custom"]'


async def test_the_server_disconnects_one(custom: Standalone, alone_websocket: WebSocket) -> None:
    """The server's DISCONNECT names its namespace, and the connection lives on."""
    sid = await join(alone_websocket)
    await custom.server.disconnect(sid, namespace="/custom")
    assert await alone_websocket.text() == "41/custom,"
    await alone_websocket.send('421["echo"]')
    assert await alone_websocket.text() == "431[]"


async def test_a_fault_ends_all(custom: Standalone, alone_websocket: WebSocket) -> None:
    """A malformed packet is the connection's fault: each namespace hears why, then DISCONNECT."""
    await join(alone_websocket)
    await alone_websocket.send("42/custom,[]")
    packets, _ = await alone_websocket.farewell(seconds=3)
    assert [packet for packet in packets if "/custom" not in packet] == ["42" + GOODBYE, "41"]
    assert [packet for packet in packets if "/custom" in packet] == ["42/custom," + GOODBYE, "41/custom,"]


async def test_a_namespace_after_an_unknown_one(custom: Standalone, alone_websocket: WebSocket) -> None:
    """The refusal of one namespace does not touch the next."""
    await alone_websocket.send("40/customs")
    assert await alone_websocket.text() == '44/customs,{"message":"Invalid namespace"}'
    await join(alone_websocket)


async def test_namespaces_by_polling(custom: Standalone, alone_polling: Polling) -> None:
    """Packets of several namespaces share a payload."""
    await alone_polling.send('40/custom,{"a":1}')
    packets = await alone_polling.until("42/custom,")
    assert packets[0].startswith('40/custom,{"sid":')
    await alone_polling.send('42/custom,1["echo"]', '421["echo"]')
    packets = await alone_polling.until("43")
    while len(packets) < 2:
        packets += await alone_polling.get()
    assert set(packets) == {'43/custom,1["custom"]', "431[]"}
