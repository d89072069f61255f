"""Engine.IO protocol 4, upgrade: polling becomes a websocket, and no packet is lost, doubled or overtaken."""

import asyncio
from collections.abc import Callable

import pytest

from tests.conformance.websocket import PING, PONG, WebSocket, close_frame, frame
from tests.conformance.wire import UPGRADE, Polling, Wire, target
from tests.nodes import Node

LIST = '["room:list"]'


def event(number: int) -> str:
    """An event whose ack has this number."""
    return f"42{number}{LIST}"


def numbers(packets: list[str]) -> list[int]:
    """The numbers of the acks among these packets."""
    return [int(packet[2 : packet.index("[")]) for packet in packets if packet.startswith("43")]


async def probe(wire: Wire, polling: Polling) -> WebSocket:
    """A websocket whose probe has been answered."""
    websocket = await wire.upgrade(polling.sid)
    await websocket.send("2probe")
    assert await websocket.text() == "3probe"
    return websocket


async def acks(websocket: WebSocket, count: int) -> list[int]:
    """The numbers of the next acks."""
    return numbers([await websocket.text() for _ in range(count)])


async def test_an_upgrade(wire: Wire, polling: Polling) -> None:
    """Probe and answer, NOOP to the waiting poll, UPGRADE; then the session is on the websocket and nowhere else."""
    waiting = await wire.waiting_poll(polling)
    websocket = await probe(wire, polling)
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
    websocket = await probe(wire, polling)
    await websocket.send("5")
    await websocket.connect(token)
    assert await websocket.is_served()


async def test_polls_while_probing(wire: Wire, polling: Polling) -> None:
    """Between the probe and the upgrade a GET with nothing to fetch comes back at once, with NOOP."""
    websocket = await probe(wire, polling)
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
    websocket = await probe(wire, polling)
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
    websocket = await probe(wire, polling)
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
    websocket = await probe(wire, polling)
    await websocket.send("5", b"\x01\x02")
    assert (await websocket.ack(1))[0]["error"]["code"] == "UNKNOWN_EVENT"


# --- upgrades that fail --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["2", "2prob", "2probe2", "3probe", "5", "40", event(1), "", b"2probe", "4probe"])
async def test_a_false_probe(wire: Wire, polling: Polling, first: str | bytes) -> None:
    """A websocket that does not begin with the probe is closed, and polling goes on."""
    websocket = await wire.upgrade(polling.sid)
    await websocket.send(first)
    packets, _ = await websocket.farewell(seconds=3)
    assert packets == []
    assert await polling.is_served()


@pytest.mark.parametrize("second", ["2probe", "3", "6", "5x", event(1), "", b"5", "1"])
async def test_a_false_upgrade(wire: Wire, polling: Polling, second: str | bytes) -> None:
    """Nothing but UPGRADE follows the probe; anything else closes the websocket, and polling goes on."""
    websocket = await probe(wire, polling)
    await websocket.send(second)
    packets, _ = await websocket.farewell(seconds=3)
    assert packets == []
    assert await polling.is_served()


@pytest.mark.parametrize("how", ["close", "abort", "half-close", "broken frame"])
@pytest.mark.parametrize("when", ["before the probe", "after the probe"])
async def test_a_websocket_that_goes(wire: Wire, polling: Polling, how: str, when: str) -> None:
    """A client whose websocket fails while upgrading is still served by polling, and may try again."""
    websocket = await (probe(wire, polling) if when == "after the probe" else wire.upgrade(polling.sid))
    if how == "abort":
        websocket.connection.abort()
    elif how == "half-close":
        websocket.connection.end_writing()
    else:
        websocket.write(close_frame(1000) if how == "close" else frame("5", rsv=4))
    await wire.delivered()
    assert await polling.is_served()
    again = await probe(wire, polling)
    await again.send("5")
    assert await again.is_served()


async def test_a_refused_upgrade(wire: Wire, polling: Polling) -> None:
    """A request that is no websocket handshake changes nothing."""
    bad = {**UPGRADE, "Sec-WebSocket-Key": "short"}
    assert (await wire.request("GET", target("websocket", polling.sid), bad)).status == 400
    assert (await wire.request("GET", target("websocket", polling.sid))).status == 400
    assert await polling.is_served()
    websocket = await probe(wire, polling)
    await websocket.send("5")
    assert await websocket.is_served()


async def test_a_second_upgrade_at_once(wire: Wire, polling: Polling) -> None:
    """While one websocket is probing another gets nowhere, and the first is not disturbed."""
    first = await probe(wire, polling)
    connection = await wire.connection()
    response = await connection.request("GET", target("websocket", polling.sid), UPGRADE)
    if response.status == 101:
        second = WebSocket(connection)
        second.write(frame("2probe") + frame("5") + frame(event(1)))
        assert (await second.farewell(seconds=3))[0] == []
    else:
        assert response.status == 400
    await first.send("5", event(2))
    assert await acks(first, 1) == [2]


async def test_a_second_upgrade_afterwards(wire: Wire, polling: Polling) -> None:
    """An upgraded session is not upgraded again: the newcomer is turned away, the session stays where it is."""
    first = await probe(wire, polling)
    await first.send("5")
    assert await first.is_served()
    connection = await wire.connection()
    response = await connection.request("GET", target("websocket", polling.sid), UPGRADE)
    if response.status == 101:
        assert (await WebSocket(connection).farewell(seconds=3))[0] == []
    assert await first.is_served()


async def test_a_close_packet_while_upgrading(wire: Wire, polling: Polling) -> None:
    """A client that says goodbye by polling ends the session and the websocket that was to take over."""
    websocket = await probe(wire, polling)
    await polling.send("1")
    await websocket.send("5", event(1))
    packets, _ = await websocket.farewell(seconds=3)
    assert packets == []
    await wire.forgets(polling.sid)


async def test_a_malformed_post_while_upgrading(wire: Wire, polling: Polling) -> None:
    """A broken payload ends the session, whatever is under way."""
    websocket = await probe(wire, polling)
    assert (await polling.post("abc")).status == 400
    await websocket.send("5", event(1))
    packets, _ = await websocket.farewell(seconds=3)
    assert not numbers(packets)
    await wire.forgets(polling.sid)
