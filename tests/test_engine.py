"""The Engine.IO endpoint by raw HTTP and websockets: refusals, limits, heartbeats, polling and upgrades."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.clients.raw import ENDPOINT, RawSocket, raw_socket
from tests.nodes import Node

UserId = Callable[[str], str]
SEPARATOR = "\x1e"
MAX_PAYLOAD_BYTES = 1_000_000


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Polling:
    """A long-polling connection, one request at a time."""

    def __init__(self, node: Node, http: aiohttp.ClientSession) -> None:
        self.sid = ""
        self.url = node.url + ENDPOINT + "polling"
        self._http = http

    async def open(self) -> dict[str, Any]:
        """Shake hands; returns what OPEN says."""
        (packet,) = await self.get()
        told: dict[str, Any] = json.loads(packet[1:])
        self.sid = told["sid"]
        self.url += f"&sid={self.sid}"
        return told

    async def get(self) -> list[str]:
        """One poll's packets."""
        status, text = await self.poll()
        assert status == 200, text
        return text.split(SEPARATOR)

    async def poll(self) -> tuple[int, str]:
        """One poll's status and body."""
        async with self._http.get(self.url) as response:
            return response.status, await response.text()

    async def post(self, body: Any, **options: Any) -> tuple[int, str]:
        """One POST's status and body."""
        async with self._http.post(self.url, data=body, **options) as response:
            return response.status, await response.text()

    async def connect(self, token: str) -> None:
        """Come into the namespace."""
        assert await self.post("40" + json.dumps({"token": token})) == (200, "ok")
        packets: list[str] = []
        while not any(packet.startswith('42["session:ready"') for packet in packets):
            packets += await self.get()


@pytest.fixture
async def polling(server: Node, http: aiohttp.ClientSession, user_id: UserId) -> Polling:
    """A connected long-polling client, alice."""
    connection = Polling(server, http)
    await connection.open()
    await connection.connect(server.token(user_id("alice")))
    return connection


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "query", "code", "message"),
    [
        ("GET", "EIO=4", 0, "Transport unknown"),
        ("GET", "EIO=4&transport=carrier-pigeon", 0, "Transport unknown"),
        ("GET", "transport=polling", 5, "Unsupported protocol version"),
        ("GET", "EIO=3&transport=polling", 5, "Unsupported protocol version"),
        ("GET", "EIO=4&transport=polling&sid=nobody", 1, "Session ID unknown"),
        ("POST", "EIO=4&transport=polling&sid=nobody", 1, "Session ID unknown"),
        ("GET", "EIO=4&transport=websocket&sid=nobody", 1, "Session ID unknown"),
        ("POST", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("DELETE", "EIO=4&transport=polling", 2, "Bad handshake method"),
        ("GET", "EIO=4&transport=websocket", 3, "Bad request"),
    ],
)
async def test_bad_requests_are_refused(
    server: Node, http: aiohttp.ClientSession, method: str, query: str, code: int, message: str
) -> None:
    """A request outside the protocol gets 400 with the reference server's JSON."""
    async with http.request(method, f"{server.url}/socket.io/?{query}") as response:
        assert response.status == 400
        assert response.content_type == "application/json"
        assert await response.json() == {"code": code, "message": message}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_a_session_takes_get_and_post(polling: Polling, http: aiohttp.ClientSession, method: str) -> None:
    """Other methods on a session are refused and leave it as it is."""
    async with http.request(method, polling.url, data="42") as response:
        assert (response.status, (await response.json())["code"]) == (400, 2)
    assert await polling.post('421["room:list"]') == (200, "ok")
    assert (await polling.get())[0].startswith("431[")


@pytest.mark.parametrize("extension", ["permessage-deflate", "permessage-deflate; client_max_window_bits"])
async def test_websockets_are_not_compressed(server: Node, http: aiohttp.ClientSession, extension: str) -> None:
    """Deflate is not taken up when offered: it costs more than it saves on small frames."""
    websocket = await http.ws_connect(server.url + ENDPOINT + "websocket", compress=15)
    assert websocket.compress == 0
    await websocket.close()


# --- OPEN and the heartbeat ----------------------------------------------------------------------------------------


async def test_open_says_how_to_behave(server: Node, http: aiohttp.ClientSession) -> None:
    """OPEN carries the sid, the upgrades and the server's figures, on both transports."""
    told = await Polling(server, http).open()
    assert {**told, "sid": ""} == {
        "sid": "", "upgrades": ["websocket"], "pingInterval": 25_000, "pingTimeout": 20_000,
        "maxPayload": MAX_PAYLOAD_BYTES,
    }  # fmt: skip
    assert len(told["sid"]) >= 20
    async with raw_socket(server) as raw:
        assert json.loads(raw.packets[0][1:])["upgrades"] == []


async def test_who_does_not_answer_pings_is_dropped(start_node: Callable[..., Any], user_id: UserId) -> None:
    """Figures of the settings are those of OPEN; after interval and timeout a silent client goes, a live one stays."""
    node = await start_node(PING_INTERVAL_MS="1000", PING_TIMEOUT_MS="1300", MAX_PAYLOAD_BYTES="5000")
    async with (
        raw_socket(node, user_id("live")) as live,
        raw_socket(node, user_id("dead")) as dead,
        aiohttp.ClientSession() as http,
    ):
        told = json.loads(live.packets[0][1:])
        assert (told["pingInterval"], told["pingTimeout"], told["maxPayload"]) == (1000, 1300, 5000)
        silent = Polling(node, http)
        await silent.open()
        dead.answers_pings = False
        start = time.monotonic()
        assert await silent.get() == ["2"]
        await dead.closed(seconds=10)
        assert 2.0 < time.monotonic() - start < 8.0
        await live.until(lambda: live.pings >= 3)
        assert (await live.call("room:list"))["success"] is True
        async with asyncio.timeout(5):
            while (await silent.poll())[0] == 200:
                pass


async def test_who_does_not_go_on_is_let_go(server: Node, polling: Polling, http: aiohttp.ClientSession) -> None:
    """Ten seconds end a connection without CONNECT, refused or not, and an upgrade that stops half-way."""
    silent = Polling(server, http)
    await silent.open()
    probing = await http.ws_connect(f"{server.url}{ENDPOINT}websocket&sid={polling.sid}")
    await probing.send_str("2probe")
    assert (await probing.receive()).data == "3probe"
    async with raw_socket(server) as raw, raw_socket(server) as refused:
        start = time.monotonic()
        await refused.send('40{"token":"bad"}')
        assert await silent.get() == ["1"]
        await raw.closed(seconds=3)
        await refused.closed(seconds=3)
        assert (await probing.receive(timeout=3)).type is aiohttp.WSMsgType.CLOSE
        assert 8 < time.monotonic() - start < 13
        assert [packet[:2] for packet in refused.packets[1:]] == ["44"]
    assert await polling.post('421["room:list"]') == (200, "ok")
    assert "6" not in await polling.get()


# --- limits --------------------------------------------------------------------------------------------------------


async def test_a_post_may_carry_many_packets(polling: Polling) -> None:
    """A stock client's offline buffer leaves as one POST: all of a thousand packets are served, in order."""
    body = SEPARATOR.join(f'42{number}["channel:list",{{"limit":1}}]' for number in range(1, 1001))
    posting = asyncio.create_task(polling.post(body))
    packets: list[str] = []
    while len(packets) < 1000:
        packets += await polling.get()
    assert await posting == (200, "ok")
    assert [int(packet[2 : packet.index("[")]) for packet in packets] == list(range(1, 1001))


async def test_more_packets_than_that_are_refused(polling: Polling) -> None:
    """1,001 packets in one POST are 400, and the connection is over."""
    status, text = await polling.post(SEPARATOR.join(["3"] * 1001))
    assert (status, json.loads(text)) == (400, {"code": 3, "message": "Bad request"})
    await ended(polling)
    await eventually(lambda: forgotten(polling))


async def test_a_post_beyond_the_limit_is_refused(polling: Polling) -> None:
    """MAX_PAYLOAD_BYTES are taken, one byte more is 413, and the connection is over."""
    start, end = '421["room:list","', '"]'
    whole = start + "a" * (MAX_PAYLOAD_BYTES - len(start) - len(end)) + end
    assert await polling.post(whole) == (200, "ok")
    assert (await polling.get())[0].startswith("431[")
    status, _ = await polling.post(whole + " ")
    assert status == 413
    await ended(polling)


async def ended(polling: Polling) -> None:
    """The last poll says goodbye."""
    packets = await polling.get()
    assert packets == ['42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]', "41", "1"]


@pytest.mark.parametrize("body", ["hello", "4abc", "42{}", "", SEPARATOR, "b!!", "bAAAA", '42["connect",{}]', "\ud83d"])
async def test_a_malformed_post_is_refused(polling: Polling, body: str) -> None:
    """A POST that is no payload of packets is 400, and the connection is over."""
    status, text = await polling.post(body.encode("utf-8", "surrogatepass"))
    assert (status, json.loads(text)["code"]) == (400, 3)
    await ended(polling)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "nonsense"])
async def test_a_compressed_post_is_refused(polling: Polling, coding: str) -> None:
    """No client compresses what it posts; a small body that unfolds into a large one gets nowhere."""
    status, text = await polling.post(gzip.compress(b"4" * 10_000_000), headers={"Content-Encoding": coding})
    assert (status, json.loads(text)["code"]) == (400, 3)
    await ended(polling)


async def test_a_slow_body_arrives_whole(polling: Polling) -> None:
    """900 kB in many small chunks are one payload."""
    text = "ä" * 9_000
    packets = [
        "42" + str(number) + json.dumps(["message:send", {"roomId": "A", "text": text}], ensure_ascii=False)
        for number in range(1, 51)
    ]
    body = SEPARATOR.join(packets).encode()
    assert 850_000 < len(body) < MAX_PAYLOAD_BYTES

    async def drip() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 7_001):
            yield body[start : start + 7_001]
            await asyncio.sleep(0)

    assert await polling.post(drip()) == (200, "ok")
    answers: list[str] = []
    while len(answers) < 50:
        answers += await polling.get()
    assert all('"NOT_FOUND"' in answer for answer in answers)


async def test_a_websocket_message_beyond_the_limit_closes(server: Node, user_id: UserId) -> None:
    """A message of MAX_PAYLOAD_BYTES is taken, a larger one closes with 1009 after a word of why."""
    async with raw_socket(server, user_id("alice")) as raw:
        start, end = '421["room:list","', '"]'
        await raw.send(start + "a" * (MAX_PAYLOAD_BYTES - len(start) - len(end)) + end)
        assert (await raw.ack(1))["error"]["code"] == "VALIDATION_ERROR"
        await raw.send(start + "a" * (MAX_PAYLOAD_BYTES - len(start) - len(end) + 1) + end)
        assert await raw.closed() == 1009
        assert raw.events("session:closed") == [{"code": "PROTOCOL_ERROR", "reconnect": False}]


async def test_who_does_not_read_is_still_served_later(server: Node, user_id: UserId) -> None:
    """More events than may be under way wait in the network and are all answered."""
    async with raw_socket(server, user_id("alice")) as raw:
        numbers = [await raw.push("channel:list", {"limit": 1}) for _ in range(1_500)]
        await raw.until(lambda: len(raw.ack_numbers()) == 1_500, seconds=20)
        assert raw.ack_numbers() == numbers


async def test_large_answers_at_once_reach_who_reads(server: Node, user_id: UserId) -> None:
    """60 messages of 40 kB answered by one commit, then pages of them, are not held against a client that reads."""
    async with raw_socket(server, user_id("alice")) as raw:
        here = {"roomId": (await raw.call("room:create", {"kind": "group"}))["room"]["roomId"]}
        sends = [await raw.push("message:send", {**here, "text": "😀" * 10_000}) for _ in range(60)]
        assert [(await raw.ack(number))["seq"] for number in sends] == list(range(1, 61))
        page = await raw.call("message:history", {**here, "limit": 100})
        assert (page["messages"][-1]["seq"], page["hasMore"]) == (60, True)
        assert [message["seq"] for message in page["messages"]] == list(range(page["messages"][0]["seq"], 61))
        assert max(len(packet.encode()) for packet in raw.packets) < 512 * 1024


# --- polling and upgrades ------------------------------------------------------------------------------------------


async def test_a_second_poll_at_once_ends_the_connection(polling: Polling) -> None:
    """Two polls at the same time are a fault of the client: the second is 400, the first comes back with CLOSE."""
    first = asyncio.create_task(polling.poll())
    statuses: set[int] = set()
    async with asyncio.timeout(5):
        while 400 not in statuses:
            statuses.add((await polling.poll())[0])
    status, text = await first
    assert {status} | statuses <= {200, 400}
    if status == 200:
        assert text == "1"
    assert (await polling.post("3"))[0] == 400


async def test_polling_takes_turns_with_posts(polling: Polling) -> None:
    """A waiting poll comes back with the answers to a POST, several packets joined, in order."""
    waiting = asyncio.create_task(polling.get())
    assert await polling.post(SEPARATOR.join(f'42{number}["room:list"]' for number in range(1, 6))) == (200, "ok")
    packets = await waiting
    while len(packets) < 5:
        packets += await polling.get()
    assert [packet[:4] for packet in packets] == [f"43{number}[" for number in range(1, 6)]


async def test_a_client_says_goodbye(polling: Polling, server: Node, user_id: UserId) -> None:
    """An Engine.IO CLOSE ends the session, whichever transport it comes by."""
    assert await polling.post("1") == (200, "ok")
    assert (await polling.poll())[0] == 400
    async with raw_socket(server, user_id("alice")) as raw:
        await raw.send("1")
        await raw.closed(seconds=3)
    async with raw_socket(server, user_id("alice")) as raw:
        await raw.send("41")
        await raw.send('421["room:list"]')
        await raw.closed(seconds=3)
        assert raw.ack_numbers() == []


async def test_an_upgrade_keeps_the_order(
    server: Node, polling: Polling, http: aiohttp.ClientSession, user_id: UserId
) -> None:
    """While messages flow from both sides, polling becomes a websocket and nothing is lost, doubled or overtaken."""
    alice = user_id("alice")
    async with raw_socket(server, user_id("bob")) as bob:
        created = await bob.call("room:create", {"kind": "group", "memberIds": [alice]})
        here = {"roomId": created["room"]["roomId"]}

        async def talk() -> None:
            for number in range(1, 201):
                assert (await bob.call("message:send", {**here, "text": str(number)}))["seq"] == number

        talking = asyncio.create_task(talk())
        packets: list[str] = []
        while sum('"message:received"' in packet for packet in packets) < 20:
            packets += await polling.get()
        posted = SEPARATOR.join(f'42{number}["room:list"]' for number in range(1, 4))
        assert await polling.post(posted) == (200, "ok")
        upgraded = await upgrade(server, polling, http, packets)
        for number in range(4, 7):
            await upgraded.send(f'42{number}["room:list"]')
        await talking
        await upgraded.until(lambda: len([*acks(packets), *acks(upgraded.packets)]) == 6)
        await upgraded.until(lambda: len([*seqs(packets), *seqs(upgraded.packets)]) >= 200)
        assert [*seqs(packets), *seqs(upgraded.packets)] == list(range(1, 201))
        assert [*acks(packets), *acks(upgraded.packets)] == [1, 2, 3, 4, 5, 6]
        assert (await polling.poll())[0] == 400
        await upgraded.close()


async def upgrade(server: Node, polling: Polling, http: aiohttp.ClientSession, packets: list[str]) -> RawSocket:
    """Probe and upgrade as the stock client does, still polling until told to stop; polled packets go to `packets`."""
    websocket = await http.ws_connect(f"{server.url}{ENDPOINT}websocket&sid={polling.sid}")

    async def poll_until_noop() -> None:
        while "6" not in (got := await polling.get()):
            packets.extend(got)
        packets.extend(packet for packet in got if packet != "6")

    polls = asyncio.create_task(poll_until_noop())
    await websocket.send_str("2probe")
    assert (await websocket.receive()).data == "3probe"
    await polls
    await websocket.send_str("5")
    return RawSocket(websocket)


def seqs(packets: list[str]) -> list[int]:
    """The seqs of messages among these packets."""
    return [json.loads(packet[2:])[1]["seq"] for packet in packets if packet.startswith('42["message:received"')]


def acks(packets: list[str]) -> list[int]:
    """The numbers of acks among these packets."""
    return [int(packet[2 : packet.index("[")]) for packet in packets if packet.startswith("43")]


@pytest.mark.parametrize("first", ["2", "3probe", "5", '42["room:list"]', "40"])
async def test_a_false_probe_does_not_upgrade(
    server: Node, polling: Polling, http: aiohttp.ClientSession, first: str
) -> None:
    """A websocket that does not begin with the probe is closed, and polling goes on."""
    websocket = await http.ws_connect(f"{server.url}{ENDPOINT}websocket&sid={polling.sid}")
    await websocket.send_str(first)
    assert (await websocket.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await websocket.close()
    assert await polling.post('421["room:list"]') == (200, "ok")
    assert (await polling.get())[0].startswith("431[")


async def test_an_abandoned_probe_leaves_polling_alone(
    server: Node, polling: Polling, http: aiohttp.ClientSession
) -> None:
    """A client that probes and then goes away on the websocket is still served by polling."""
    websocket = await http.ws_connect(f"{server.url}{ENDPOINT}websocket&sid={polling.sid}")
    await websocket.send_str("2probe")
    assert (await websocket.receive()).data == "3probe"
    await websocket.close()
    assert await polling.post('421["room:list"]') == (200, "ok")
    packets = ["6"]
    async with asyncio.timeout(5):
        while packets == ["6"]:
            packets = await polling.get()
    assert packets[0].startswith("431[")


@pytest.mark.parametrize("together", ["post", "frames"])
async def test_two_connects_at_once_are_one_too_many(
    start_node: Callable[..., Any], user_id: UserId, together: str
) -> None:
    """A second CONNECT breaks the protocol also while the first is being answered, and leaves no session behind."""
    node = await start_node()
    connect = "40" + json.dumps({"token": node.token(user_id("alice"))})
    async with aiohttp.ClientSession() as http:
        if together == "post":
            polling = Polling(node, http)
            await polling.open()
            status, _ = await polling.post(connect + SEPARATOR + connect)
            assert status == 400
        else:
            async with raw_socket(node) as raw:
                await raw.send_together(connect, connect)
                await raw.closed(seconds=3)
        await eventually(lambda: tells(node, http, "parley_connections 0.0"))


async def test_who_goes_during_the_handshake_is_not_counted(start_node: Callable[..., Any], user_id: UserId) -> None:
    """The number of connections is right also when clients leave before they are let in."""
    node = await start_node()
    async with aiohttp.ClientSession() as http:
        for number in range(20):
            async with raw_socket(node) as raw:
                await raw.send("40" + json.dumps({"token": node.token(user_id(f"u{number}"))}))
        async with raw_socket(node, user_id("stays")):
            await eventually(lambda: tells(node, http, "parley_connections 1.0"))
        await eventually(lambda: tells(node, http, "parley_connections 0.0"))
        assert "handler failed" not in node.log_text()


async def tells(node: Node, http: aiohttp.ClientSession, line: str) -> bool:
    """Whether this line is among the node's metrics now."""
    async with http.get(node.url + "/health/metrics") as response:
        return line in (await response.text()).splitlines()


async def forgotten(polling: Polling) -> bool:
    """Whether the session is unknown by now."""
    return (await polling.poll())[0] == 400


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until this is so, ten seconds at most."""
    for _ in range(100):
        if await holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not come to be")
