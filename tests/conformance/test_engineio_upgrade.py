"""Engine.IO protocol 4, upgrade: polling becomes a websocket, and no packet is lost, doubled or overtaken."""

import asyncio
from collections.abc import Callable

import pytest

from tests.conformance.websocket import PING, PONG, WebSocket, frame
from tests.conformance.wire import UPGRADE, Polling, Wire, target
from tests.nodes import Node

LIST = '["room:list"]'


def event(number: int) -> str:
    """An event whose ack has this number."""
    return f"42{number}{LIST}"


def numbers(packets: list[str]) -> list[int]:
    """The numbers of the acks among these packets."""
    return [int(packet[2 : packet.index("[")]) for packet in packets if packet.startswith("43")]


async def acks(websocket: WebSocket, count: int) -> list[int]:
    """The numbers of the next acks."""
    return numbers([await websocket.text() for _ in range(count)])


async def test_an_upgrade(wire: Wire, polling: Polling) -> None:
    """Probe and answer, NOOP to the waiting poll, UPGRADE; then the session is on the websocket and nowhere else."""
    waiting = await wire.waiting_poll(polling)
    websocket = await wire.probe(polling)
    response = await waiting.response()
    assert (response.status, response.text) == (200, "6")
    await websocket.send("5", event(1))
    assert await acks(websocket, 1) == [1]
    for refused in (await polling.poll(), await polling.post(event(2))):
        assert (refused.status, refused.json["code"]) == (400, 3)
    assert await websocket.is_served()


async def test_an_upgrade_before_connect(wire: Wire, token: str) -> None:
    """Stock clients probe while CONNECT is under way; OPEN is not said again."""
    polling = await wire.polling()
    websocket = await wire.probe(polling)
    await websocket.send("5")
    await websocket.connect(token)
    assert await websocket.is_served()


async def test_polls_while_probing(wire: Wire, polling: Polling) -> None:
    """Between the probe and the upgrade a GET with nothing to fetch comes back at once, with NOOP."""
    websocket = await wire.probe(polling)
    for _ in range(3):
        assert await asyncio.wait_for(polling.get(), 3) == ["6"]
    await websocket.send("5", event(1))
    assert await acks(websocket, 1) == [1]


async def test_an_upgrade_under_a_waiting_poll(wire: Wire, polling: Polling) -> None:
    """A client that upgrades without waiting for its poll gets it back all the same."""
    waiting = await wire.waiting_poll(polling)
    websocket = await wire.upgrade(polling.sid)
    websocket.write(frame("2probe") + frame("5") + frame(event(1)))
    assert await websocket.text() == "3probe"
    assert await acks(websocket, 1) == [1]
    response = await asyncio.wait_for(waiting.response(), 3)
    assert (response.status, response.text) == (200, "6")


@pytest.mark.parametrize("together", [True, False])
async def test_the_upgrade_in_one_segment(wire: Wire, polling: Polling, together: bool) -> None:
    """The whole upgrade and the first event may arrive in one piece, even right behind the HTTP request."""
    connection = await wire.connection()
    request = connection.request_bytes("GET", target("websocket", polling.sid), UPGRADE)
    frames = frame("2probe") + frame("5") + frame(event(1)) + frame(event(2))
    connection.write(request + frames if together else request)
    assert (await connection.response()).status == 101
    websocket = WebSocket(connection)
    if not together:
        websocket.write(frames)
    assert await websocket.text() == "3probe"
    assert await acks(websocket, 2) == [1, 2]


async def test_the_upgrade_in_single_bytes(wire: Wire, polling: Polling) -> None:
    """Or byte by byte, with control frames between."""
    websocket = await wire.upgrade(polling.sid)
    stream = frame("2probe") + frame(b"x", PING) + frame(b"", PONG) + frame("5") + frame(event(1))
    await wire.write_in_pieces(websocket.connection, *(bytes([byte]) for byte in stream))
    got = [(await websocket.frame()).payload for _ in range(3)]
    assert sorted(got[:2]) == [b"3probe", b"x"]
    assert got[2].startswith(b"431[")


async def test_every_phase_keeps_the_order(wire: Wire, polling: Polling) -> None:
    """Events of all phases, by whichever transport the phase has, are answered each once and in order."""
    packets: list[str] = []
    await polling.send(event(1), event(2))
    packets += await polling.get()
    await polling.send(event(3))
    websocket = await wire.upgrade(polling.sid)
    await polling.send(event(4), event(5))
    waiting = await wire.waiting_poll(polling)
    await websocket.send("2probe")
    assert await websocket.text() == "3probe"
    packets += (await waiting.response()).text.split("\x1e")
    await polling.send(event(6))
    packets += await polling.get()
    await polling.send(event(7), event(8))
    websocket.write(frame("5") + frame(event(9)))
    await websocket.send(event(10))
    while len(numbers(packets)) < 10:
        packets.append(await websocket.text())
    assert numbers(packets) == list(range(1, 11))


@pytest.mark.parametrize("polls", ["after the probe", "before the probe", "never"])
async def test_what_waits_goes_first(wire: Wire, polling: Polling, polls: str) -> None:
    """Packets that no poll has fetched are sent by the websocket, ahead of all later ones."""
    packets: list[str] = []
    await polling.send(*(event(number) for number in range(1, 21)))
    if polls == "before the probe":
        packets += await polling.get()
    websocket = await wire.probe(polling)
    if polls == "after the probe":
        packets += await polling.get()
    await polling.send(*(event(number) for number in range(21, 41)))
    await websocket.send("5", event(41))
    while len(numbers(packets)) < 41:
        packets.append(await websocket.text())
    assert numbers(packets) == list(range(1, 42))


async def test_messages_of_others_during_the_upgrade(
    wire: Wire, polling: Polling, server: Node, user_id: Callable[[str], str]
) -> None:
    """What the server sends of itself passes through an upgrade in order, too."""
    await polling.send('4299["room:create",{"kind":"channel"}]')
    created = (await polling.until("4399["))[-1]
    room_id = created.split('"roomId":"')[1].split('"')[0]
    other = await wire.websocket(server.token(user_id("bob")))
    await other.send(f'421["room:join",{{"roomId":"{room_id}"}}]')
    assert (await other.ack(1))[0]["success"]

    async def talk() -> None:
        for number in range(1, 101):
            await other.send(f'42{number}["message:send",{{"roomId":"{room_id}","text":"{number}"}}]')
            assert (await other.ack(number))[0]["seq"] == number

    talking = asyncio.create_task(talk())
    packets: list[str] = []
    while len(seqs(packets)) < 20:
        packets += await polling.get()
    websocket = await wire.probe(polling)
    while "6" not in packets:
        packets += await polling.get()
    await websocket.send("5")
    while len(seqs(packets)) < 100:
        packets.append(await websocket.text())
    await talking
    assert seqs(packets) == list(range(1, 101))


def seqs(packets: list[str]) -> list[int]:
    """The seqs of the messages among these packets."""
    received = [packet for packet in packets if packet.startswith('42["message:received"')]
    return [int(packet.split('"seq":')[1].split(",")[0]) for packet in received]


async def test_an_attachment_after_the_upgrade(wire: Wire, polling: Polling) -> None:
    """A packet begun by polling is finished by the websocket: it is one stream."""
    await polling.send('451-1["no:such",{"_placeholder":true,"num":0}]')
    websocket = await wire.probe(polling)
    await websocket.send("5", b"\x01\x02")
    assert (await websocket.ack(1))[0]["error"]["code"] == "UNKNOWN_EVENT"
