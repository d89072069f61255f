"""Socket.IO protocol 5, BINARY_EVENT and BINARY_ACK, on a server that sends back what it gets."""

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.conformance.standalone import Standalone
from tests.conformance.websocket import BINARY, CONTINUATION, PING, PONG, WebSocket, frame
from tests.conformance.wire import Polling

CLOSED = '42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]'


def place(number: Any) -> dict[str, Any]:
    """The placeholder of an attachment."""
    return {"_placeholder": True, "num": number}


def compact(value: Any) -> str:
    """JSON as the server writes it."""
    return json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize("count", range(1, 11))
async def test_events_by_websocket(alone_websocket: WebSocket, count: int) -> None:
    """An event with 1 to 10 attachments is put together and sent back as the same event."""
    attachments = [bytes(range(number)) * number for number in range(count)]
    places = [place(number) for number in range(count)]
    await alone_websocket.send(f"45{count}-{compact(['back', *places])}", *attachments)
    assert await alone_websocket.text() == f"45{count}-{compact(['back', *places])}"
    assert [await alone_websocket.binary() for _ in attachments] == attachments


@pytest.mark.parametrize("count", [1, 2, 10])
async def test_events_by_polling(alone_polling: Polling, count: int) -> None:
    """In payloads attachments are base64, both ways."""
    attachments = ["b" + base64.b64encode(bytes(range(number * 20))).decode() for number in range(count)]
    header = f"45{count}-" + compact(["back", *(place(number) for number in range(count))])
    await alone_polling.send("3", header, *attachments, '42["back",1]')
    packets = await alone_polling.until('42["back",1]')
    assert packets == [header, *attachments, '42["back",1]']


async def test_acks_by_websocket(alone_websocket: WebSocket) -> None:
    """An ack may carry attachments, too: then it is a BINARY_ACK."""
    await alone_websocket.send(f"452-7{compact(['echo', place(0), {'a': [place(1)]}])}", b"\x00\xff", b"")
    assert await alone_websocket.text() == f"462-7{compact([place(0), {'a': [place(1)]}])}"
    assert [await alone_websocket.binary() for _ in range(2)] == [b"\x00\xff", b""]


async def test_acks_by_polling(alone_polling: Polling) -> None:
    """The same by polling."""
    packets = [f"451-7{compact(['echo', place(0)])}", "bAQIDBA=="]
    await alone_polling.send(*packets)
    assert await alone_polling.until("b") == [f"461-7{compact([place(0)])}", "bAQIDBA=="]


async def test_binary_acks_from_the_client(alone: Standalone, alone_websocket: WebSocket) -> None:
    """The server's call returns the bytes of a BINARY_ACK."""
    (sid,) = alone.server.manager.sessions
    asking = asyncio.create_task(alone.server.call("ask", b"?", to=sid, timeout=5))
    packet = await alone_websocket.text()
    ack_id = packet.removeprefix("451-").partition("[")[0]
    assert packet == f"451-{ack_id}{compact(['ask', place(0)])}"
    assert await alone_websocket.binary() == b"?"
    await alone_websocket.send(f"462-{ack_id}{compact([place(1), place(0)])}", b"a", b"b")
    assert await asking == (b"b", b"a")


async def test_places_anywhere(alone_websocket: WebSocket) -> None:
    """Placeholders may be nested and in any order; what only looks like one is data."""
    data = ["echo", {"x": [place(1), {"y": place(0)}]}, {"_placeholder": False, "num": 0}, {"num": 1}]
    await alone_websocket.send(f"452-1{compact(data)}", b"zero", b"one")
    expected = [{"x": [place(0), {"y": place(1)}]}, {"_placeholder": False, "num": 0}, {"num": 1}]
    assert await alone_websocket.text() == f"462-1{compact(expected)}"
    assert [await alone_websocket.binary() for _ in range(2)] == [b"one", b"zero"]


async def test_a_placeholder_in_a_plain_event(alone_websocket: WebSocket) -> None:
    """Without attachments it is data like any other, or refused; it never takes another event's bytes."""
    await alone_websocket.send(f"421{compact(['echo', place(0)])}")
    packet = await alone_websocket.text()
    assert packet in (f"431{compact([place(0)])}", CLOSED)


async def test_namespaces_of_binary_events(alone: Standalone, alone_websocket: WebSocket) -> None:
    """The count of attachments stands before the namespace, the id behind it."""

    async def echo(sid: str, *args: Any) -> Any:
        return args

    alone.server.on("echo", echo, namespace="/other")
    await alone_websocket.send("40/other")
    assert (await alone_websocket.text()).startswith('40/other,{"sid"')
    await alone_websocket.send(f"451-/other,12{compact(['echo', place(0)])}", b"x")
    assert await alone_websocket.text() == f"461-/other,12{compact([place(0)])}"
    assert await alone_websocket.binary() == b"x"


async def test_large_and_fragmented_attachments(alone_websocket: WebSocket) -> None:
    """Attachments of any length, in fragments, with pings and pongs between, come back byte for byte."""
    large = bytes(range(256)) * 3_000
    await alone_websocket.send(f"453-{compact(['back', place(0), place(1), place(2)])}")
    alone_websocket.write(frame(large[:100_000], BINARY, fin=False) + frame(b"p", PING))
    alone_websocket.write(frame(large[100_000:], CONTINUATION) + frame("3") + frame(b""))
    alone_websocket.write(
        b"".join(frame(large[:126][at : at + 1], CONTINUATION if at else BINARY, fin=at == 125) for at in range(126))
    )
    assert (await alone_websocket.frame()).opcode == PONG
    assert (await alone_websocket.text()).startswith('453-["back"')
    assert [await alone_websocket.binary() for _ in range(3)] == [large, b"", large[:126]]


@pytest.mark.parametrize("size", [0, 1, 117, 118, 119, 120, 125, 126, 127, 65_534, 65_535, 65_536, 70_000, 900_000])
async def test_every_form_of_the_length_both_ways(alone_websocket: WebSocket, size: int) -> None:
    """Text and bytes of lengths around each limit of RFC 6455's forms come back as they went."""
    text, attachment = "x" * size, b"y" * size
    await alone_websocket.send(f'421["echo","{text}"]', f"451-{compact(['back', place(0)])}", attachment)
    assert await alone_websocket.text() == f'431["{text}"]'
    assert await alone_websocket.text() == f"451-{compact(['back', place(0)])}"
    assert await alone_websocket.binary() == attachment


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
async def test_wrong_places(alone_websocket: WebSocket, places: list[Any]) -> None:
    """Two attachments that do not fit their placeholders end the connection."""
    await alone_websocket.send(f"452-1{compact(['echo', *places])}", b"a", b"b")
    assert (await alone_websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


@pytest.mark.parametrize("packet", ['42["echo"]', "41", "40/x", "431[]", '451-["x",{"_placeholder":true,"num":0}]'])
@pytest.mark.parametrize("sent", [0, 1])
async def test_text_amid_attachments(alone_websocket: WebSocket, packet: str, sent: int) -> None:
    """While attachments are due no other packet may come."""
    await alone_websocket.send(f"452-1{compact(['echo', place(0), place(1)])}", *[b"x"] * sent, packet)
    assert (await alone_websocket.farewell(seconds=3))[0] == [CLOSED, "41"]


async def test_attachments_unasked(alone_websocket: WebSocket) -> None:
    """Bytes that no packet has announced end the connection, also right behind those that were."""
    await alone_websocket.send(f"451-{compact(['back', place(0)])}", b"x", b"y")
    packets, _ = await alone_websocket.farewell(seconds=3)
    assert packets[-2:] == [CLOSED, "41"]


async def test_an_event_without_all_its_attachments(alone_websocket: WebSocket) -> None:
    """A client that goes in the middle of an event has not sent it."""
    await alone_websocket.send(f"452-1{compact(['echo', place(0), place(1)])}", b"x", "1")
    assert await alone_websocket.farewell(seconds=3) == ([], 1000)
