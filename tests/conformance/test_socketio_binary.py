"""Socket.IO protocol 5, BINARY_EVENT and BINARY_ACK, on a server that sends back what it gets."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conformance.standalone import Standalone, standalone
from tests.conformance.websocket import BINARY, CONTINUATION, PING, PONG, WebSocket, frame
from tests.conformance.wire import Polling, Wire

CLOSED = '42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]'


@pytest.fixture
async def alone() -> AsyncIterator[Standalone]:
    """A server whose event `echo` is acked with its arguments, and whose event `back` returns as an event."""
    async with standalone() as alone:

        async def echo(sid: str, *args: Any) -> Any:
            return args

        async def back(sid: str, *args: Any) -> None:
            await alone.server.emit("back", args, to=sid)

        alone.server.on("echo", echo)
        alone.server.on("back", back)
        yield alone


@pytest.fixture
async def wire(alone: Standalone) -> AsyncIterator[Wire]:
    """The ways to that server."""
    wire = Wire(alone.port)
    yield wire
    await wire.close()


@pytest.fixture
async def websocket(wire: Wire) -> WebSocket:
    """A websocket with an open session."""
    websocket = await wire.websocket()
    await websocket.send("40")
    assert (await websocket.text()).startswith('40{"sid"')
    return websocket


@pytest.fixture
async def polling(wire: Wire) -> Polling:
    """A long-polling client with an open session."""
    polling = await wire.polling()
    await polling.send("40")
    await polling.until('40{"sid"')
    return polling


def place(number: Any) -> dict[str, Any]:
    """The placeholder of an attachment."""
    return {"_placeholder": True, "num": number}


def compact(value: Any) -> str:
    """JSON as the server writes it."""
    return json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize("count", range(1, 11))
async def test_events_by_websocket(websocket: WebSocket, count: int) -> None:
    """An event with 1 to 10 attachments is put together and sent back as the same event."""
    attachments = [bytes(range(number)) * number for number in range(count)]
    places = [place(number) for number in range(count)]
    await websocket.send(f"45{count}-{compact(['back', *places])}", *attachments)
    assert await websocket.text() == f"45{count}-{compact(['back', *places])}"
    assert [await websocket.binary() for _ in attachments] == attachments


@pytest.mark.parametrize("count", [1, 2, 10])
async def test_events_by_polling(polling: Polling, count: int) -> None:
    """In payloads attachments are base64, both ways."""
    attachments = ["b" + base64.b64encode(bytes(range(number * 20))).decode() for number in range(count)]
    header = f"45{count}-" + compact(["back", *(place(number) for number in range(count))])
    await polling.send("3", header, *attachments, '42["back",1]')
    packets = await polling.until('42["back",1]')
    assert packets == [header, *attachments, '42["back",1]']


async def test_acks_by_websocket(websocket: WebSocket) -> None:
    """An ack may carry attachments, too: then it is a BINARY_ACK."""
    await websocket.send(f"452-7{compact(['echo', place(0), {'a': [place(1)]}])}", b"\x00\xff", b"")
    assert await websocket.text() == f"462-7{compact([place(0), {'a': [place(1)]}])}"
    assert [await websocket.binary() for _ in range(2)] == [b"\x00\xff", b""]


async def test_acks_by_polling(polling: Polling) -> None:
    """The same by polling."""
    packets = [f"451-7{compact(['echo', place(0)])}", "bAQIDBA=="]
    await polling.send(*packets)
    assert await polling.until("b") == [f"461-7{compact([place(0)])}", "bAQIDBA=="]


async def test_binary_acks_from_the_client(alone: Standalone, websocket: WebSocket) -> None:
    """The server's call returns the bytes of a BINARY_ACK."""
    (sid,) = alone.server.manager.sessions
    asking = asyncio.create_task(alone.server.call("ask", b"?", to=sid, timeout=5))
    packet = await websocket.text()
    ack_id = packet.removeprefix("451-").partition("[")[0]
    assert packet == f"451-{ack_id}{compact(['ask', place(0)])}"
    assert await websocket.binary() == b"?"
    await websocket.send(f"462-{ack_id}{compact([place(1), place(0)])}", b"a", b"b")
    assert await asking == (b"b", b"a")


async def test_places_anywhere(websocket: WebSocket) -> None:
    """Placeholders may be nested and in any order; what only looks like one is data."""
    data = ["echo", {"x": [place(1), {"y": place(0)}]}, {"_placeholder": False, "num": 0}, {"num": 1}]
    await websocket.send(f"452-1{compact(data)}", b"zero", b"one")
    expected = [{"x": [place(0), {"y": place(1)}]}, {"_placeholder": False, "num": 0}, {"num": 1}]
    assert await websocket.text() == f"462-1{compact(expected)}"
    assert [await websocket.binary() for _ in range(2)] == [b"one", b"zero"]


async def test_a_placeholder_in_a_plain_event(websocket: WebSocket) -> None:
    """Without attachments it is data like any other, or refused; it never takes another event's bytes."""
    await websocket.send(f"421{compact(['echo', place(0)])}")
    packet = await websocket.text()
    assert packet in (f"431{compact([place(0)])}", CLOSED)


async def test_namespaces_of_binary_events(alone: Standalone, websocket: WebSocket) -> None:
    """The count of attachments stands before the namespace, the id behind it."""

    async def echo(sid: str, *args: Any) -> Any:
        return args

    alone.server.on("echo", echo, namespace="/other")
    await websocket.send("40/other")
    assert (await websocket.text()).startswith('40/other,{"sid"')
    await websocket.send(f"451-/other,12{compact(['echo', place(0)])}", b"x")
    assert await websocket.text() == f"461-/other,12{compact([place(0)])}"
    assert await websocket.binary() == b"x"


async def test_large_and_fragmented_attachments(websocket: WebSocket) -> None:
    """Attachments of any length, in fragments, with pings and pongs between, come back byte for byte."""
    large = bytes(range(256)) * 3_000
    await websocket.send(f"453-{compact(['back', place(0), place(1), place(2)])}")
    websocket.write(frame(large[:100_000], BINARY, fin=False) + frame(b"p", PING))
    websocket.write(frame(large[100_000:], CONTINUATION) + frame("3") + frame(b""))
    websocket.write(
        b"".join(frame(large[:126][at : at + 1], CONTINUATION if at else BINARY, fin=at == 125) for at in range(126))
    )
    assert (await websocket.frame()).opcode == PONG
    assert (await websocket.text()).startswith('453-["back"')
    assert [await websocket.binary() for _ in range(3)] == [large, b"", large[:126]]


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([], id="none"),
        pytest.param([place(0)], id="one missing"),
        pytest.param([place(0), place(0)], id="one twice"),
        pytest.param([place(0), place(1), place(1)], id="one too often"),
        pytest.param([place(0), place(2)], id="out of range"),
        pytest.param([place(0), place(-1)], id="negative"),
        pytest.param([place(0), place(1.0)], id="float"),
        pytest.param([place(0), place(True)], id="boolean"),
        pytest.param([place(0), place("1")], id="string"),
        pytest.param([place(0), place(None)], id="null"),
        pytest.param([place(0), {"_placeholder": True}], id="no number"),
    ],
)
async def test_wrong_places(websocket: WebSocket, places: list[Any]) -> None:
    """Two attachments that do not fit their placeholders end the connection."""
    await websocket.send(f"452-1{compact(['echo', *places])}", b"a", b"b")
    assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


@pytest.mark.parametrize("packet", ['42["echo"]', "41", "40/x", "431[]", '451-["x",{"_placeholder":true,"num":0}]'])
@pytest.mark.parametrize("sent", [0, 1])
async def test_text_amid_attachments(websocket: WebSocket, packet: str, sent: int) -> None:
    """While attachments are due no other packet may come."""
    await websocket.send(f"452-1{compact(['echo', place(0), place(1)])}", *[b"x"] * sent, packet)
    assert (await websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


async def test_attachments_unasked(websocket: WebSocket) -> None:
    """Bytes that no packet has announced end the connection, also right behind those that were."""
    await websocket.send(f"451-{compact(['back', place(0)])}", b"x", b"y")
    packets, _ = await websocket.farewell(seconds=3)
    assert packets[-2:] == [CLOSED, "41"]


async def test_an_event_without_all_its_attachments(websocket: WebSocket) -> None:
    """A client that goes in the middle of an event has not sent it."""
    await websocket.send(f"452-1{compact(['echo', place(0), place(1)])}", b"x", "1")
    assert await websocket.farewell(seconds=3) == ([], 1000)
