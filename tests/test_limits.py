"""The bounds of a client and of all of them: each a setting, each with a count, none a surprise to who keeps them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import socketio
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from realtime import Limits, create_server
from realtime.frames import Packet
from realtime.handshake import Handshake
from realtime.long_polling import LongPolling
from realtime.packets import MalformedPacket
from realtime.rate import Rate
from realtime.socket import Socket
from realtime.sockets import Sockets
from tests.clients.raw import ENDPOINT, RawSocket, raw_socket
from tests.clients.user import eventually
from tests.nodes import Node

UserId = Callable[[str], str]


async def hits(node: Node, limit: str) -> float:
    """How often a node has counted a bound."""
    async with aiohttp.ClientSession() as http, http.get(f"{node.url}/health/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith(f'parley_limits_hit_total{{limit="{limit}"')
    )


# --- handshakes ----------------------------------------------------------------------------------------------------


async def test_too_many_handshakes_are_sent_away_before_any_work(start_node: Callable[..., Any]) -> None:
    """Past the rate both transports get 503 with a time to come back at; sessions that are open go on."""
    node = await start_node(MAX_HANDSHAKES_PER_SECOND="3")
    async with aiohttp.ClientSession() as http, raw_socket(node) as raw:
        await raw.connect(node.token("alice"))
        answers = [await http.get(f"{node.url}{ENDPOINT}polling") for _ in range(20)]
        refused = [answer for answer in answers if answer.status == 503]
        assert {answer.status for answer in answers} == {200, 503}
        for answer in refused:
            body = await answer.json()
            assert (body["code"], int(answer.headers["Retry-After"]) > 0) == ("SERVER_BUSY", True)
            assert 1_000 <= body["retryAfterMs"] <= 5_000
        shaken = await asyncio.gather(
            *(http.ws_connect(f"{node.url}{ENDPOINT}websocket") for _ in range(20)), return_exceptions=True
        )
        sent_away = [answer for answer in shaken if isinstance(answer, aiohttp.WSServerHandshakeError)]
        assert sent_away
        assert all(answer.status == 503 and "Retry-After" in (answer.headers or {}) for answer in sent_away)
        assert await hits(node, "handshakes") >= len(refused)
        assert (await raw.call("room:list", {}))["success"]


async def test_a_stock_client_comes_back_by_itself(start_node: Callable[..., Any]) -> None:
    """Being sent away is a delay, not an end, to a client that tries again."""
    node = await start_node(MAX_HANDSHAKES_PER_SECOND="1")
    clients = [socketio.AsyncClient(reconnection_delay=0.2, reconnection_delay_max=1) for _ in range(3)]
    await asyncio.gather(
        *(
            client.connect(node.url, auth={"token": node.token(f"user{number}")}, transports=["websocket"], retry=True)
            for number, client in enumerate(clients)
        )
    )
    for client in clients:
        assert (await client.call("room:list", {}))["success"]
        await client.disconnect()


@given(st.integers(1, 50), st.lists(st.floats(0, 2), max_size=200))
def test_a_rate_lets_so_many_through(per_second: int, pauses: list[float]) -> None:
    """At most the rate times the time, and as many again at once, do; after a second of rest one always does."""
    rate, now, taken = Rate(per_second), 100.0, 0
    for pause in pauses:
        now += pause
        taken += rate.take(now)
        assert taken <= per_second * (1 + now - 100) + 1e-6
    assert rate.take(now + 1)


# --- the first CONNECT ---------------------------------------------------------------------------------------------


async def test_who_does_not_connect_is_let_go(start_node: Callable[..., Any]) -> None:
    """A connection without a session, refused or silent, ends when its time is over; one with a session stays."""
    node = await start_node(CONNECT_SECONDS="0.4")
    async with raw_socket(node) as silent, raw_socket(node) as refused, raw_socket(node) as alice:
        await refused.send('40{"token":"bad"}')
        await alice.connect(node.token("alice"))
        await silent.closed(seconds=3)
        await refused.closed(seconds=3)
        assert (await alice.call("room:list", {}))["success"]
    assert await hits(node, "connect_seconds") == 2


# --- what is not read ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[tuple[Any, str, list[str]]]:
    """A server of one's own, its URL, and the bounds that were reached there."""
    reached: list[str] = []
    server = create_server(limits=Limits(**limits), on_limit=reached.append)
    app = web.Application()
    server.attach_to(app)
    server.on("connect", _let_in)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listening = await server.listen(runner, "127.0.0.1", 0, backlog=16)
    try:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", reached
    finally:
        listening.close()
        await server.shutdown()
        await runner.cleanup()


async def _let_in(sid: str, environ: dict[str, Any]) -> None:
    """Everybody may come."""


async def deaf(url: str) -> socket.socket:
    """A client that comes in by a websocket and reads nothing of it, through a small window."""
    host, port = url.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    request = (
        f"GET {ENDPOINT}websocket HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(client, request.encode() + b"\x81\x82\x00\x00\x00\x0040")
    return client


async def test_a_client_that_leaves_too_much_unread_is_cut() -> None:
    """Past the bytes a client is cut; what is kept for it stays within the bound until then."""
    async with serving(buffered_bytes=100_000) as (server, url, reached):
        client = await deaf(url)
        await eventually(lambda: any(session.connected for session in server.manager.sessions.values()))
        for _ in range(2_000):
            await server.emit("news", "x" * 10_000)
            await asyncio.sleep(0)
            if reached:
                break
        await eventually(lambda: not server.eio.sockets)
        assert reached == ["buffered"]
        client.close()


async def test_a_client_that_reads_nothing_for_too_long_is_cut() -> None:
    """Little unread is as bad, when it stays unread."""
    async with serving(buffered_bytes=100_000_000, buffered_seconds=0.3) as (server, url, reached):
        client = await deaf(url)
        await eventually(lambda: any(session.connected for session in server.manager.sessions.values()))
        await server.emit("news", "x" * 10_000_000)
        await eventually(lambda: not server.eio.sockets)
        assert reached == ["buffered"]
        client.close()


async def test_a_polling_client_that_stays_away_is_told_why_it_was_cut() -> None:
    """Packets that nobody fetches end the session; the next poll brings them and the reason."""
    async with serving(buffered_seconds=0.3) as (server, url, reached), aiohttp.ClientSession() as http:
        polling = f"{url}{ENDPOINT}polling"
        sid = json.loads((await (await http.get(polling)).text())[1:])["sid"]
        await http.post(f"{polling}&sid={sid}", data="40")
        await (await http.get(f"{polling}&sid={sid}")).text()
        await server.emit("news", 1)
        await eventually(lambda: reached == ["buffered"])
        packets = (await (await http.get(f"{polling}&sid={sid}")).text()).split("\x1e")
        assert packets == ['42["news",1]', '42["session:closed",{"code":"SLOW_CONSUMER","reconnect":true}]', "1"]


class Quiet:
    """A receiver that notes who was cut."""

    def __init__(self) -> None:
        self.cut: list[Socket] = []

    def overrun(self, socket: Socket) -> None:
        """Note it."""
        self.cut.append(socket)

    def opened(self, socket: Socket, handshake: Handshake) -> None:
        """Not of interest."""

    def received(self, socket: Socket, message: bytes) -> None:
        """Not of interest."""

    def received_binary(self, socket: Socket, attachment: bytes) -> None:
        """Not of interest."""

    def malformed(self, socket: Socket, fault: MalformedPacket) -> None:
        """Not of interest."""

    def closed(self, socket: Socket, reason: str) -> None:
        """Not of interest."""


async def test_who_lags_is_spared_what_is_soon_out_of_date() -> None:
    """From half of the bound on droppable packets are left out and counted; messages go into the buffer to its end."""
    receiver = Quiet()
    sockets = Sockets(receiver, Limits(buffered_bytes=100_000), 25_000, 20_000)
    client = Socket("sid", sockets)
    client.polling = LongPolling(client)
    message, typing = Packet(b"m" * 10_000), Packet(b"t" * 100, droppable=True)
    for _ in range(9):
        client.send(message)
        client.send(typing)
    assert sockets.dropped == 5
    assert not receiver.cut
    got = b""
    while b"m" in (payload := await client.polling.poll() or b""):
        got += payload
    assert (got.count(b"m"), got.count(b"t")) == (90_000, 400)
    client.end("test")


# --- what is taken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "limit", "packets"),
    [
        ("MAX_ATTACHMENTS", "attachments", ['453-["x"]']),
        ("MAX_JSON_DEPTH", "json_depth", ['42["x",' + "[" * 10 + "]" * 10 + "]"]),
        ("MAX_NAMESPACES", "namespaces", ["40/one", "40/two", "40/three", "40/four"]),
    ],
)
async def test_bounds_of_what_a_client_sends(
    start_node: Callable[..., Any], user_id: UserId, setting: str, limit: str, packets: list[str]
) -> None:
    """What goes past a bound breaks the protocol, and is counted."""
    node = await start_node(**{setting: "8" if limit == "json_depth" else "2"})
    async with raw_socket(node) as raw:
        await raw.connect(node.token(user_id("alice")))
        await raw.send(*packets)
        if limit == "namespaces":
            # Unknown ones are refused one by one and hold no place.
            await raw.until(lambda: sum(packet.startswith("44") for packet in raw.packets) == 4)
        else:
            await raw.closed(seconds=3)
            assert raw.events("session:closed")[0]["code"] == "PROTOCOL_ERROR"
            assert await hits(node, limit) == 1


async def test_rooms_past_the_bound_are_not_entered() -> None:
    """A session stays out of the room that would be one too many, and that is counted."""
    async with serving(rooms=2) as (server, url, reached), aiohttp.ClientSession() as http:
        websocket = await http.ws_connect(f"{url}{ENDPOINT}websocket")
        await websocket.send_str("40")
        await eventually(lambda: any(session.connected for session in server.manager.sessions.values()))
        (sid,) = server.manager.sessions
        for room in ("a", "b", "c", "b"):
            await server.enter_room(sid, room)
        assert (sorted(server.rooms(sid)), reached) == (sorted([sid, "a", "b"]), ["rooms"])
        await server.leave_room(sid, "a")
        await server.enter_room(sid, "c")
        assert "c" in server.rooms(sid)
        await websocket.close()


async def test_a_client_with_too_many_events_under_way_waits_in_the_network() -> None:
    """Nothing more is read from it until one is finished; then all are served in order."""
    async with serving(events_under_way=3) as (server, url, reached), aiohttp.ClientSession() as http:
        gate, begun = asyncio.Event(), 0

        async def slow(sid: str, number: int) -> int:
            nonlocal begun
            begun += 1
            await gate.wait()
            return number

        server.on("slow", slow)
        websocket = await http.ws_connect(f"{url}{ENDPOINT}websocket")
        raw = RawSocket(websocket)
        await raw.send("40")
        await raw.until(lambda: any(packet.startswith("40") for packet in raw.packets))
        await raw.send(*(f'42{number}["slow",{number}]' for number in range(10)))
        await eventually(lambda: "events_under_way" in reached)
        assert begun == 1
        gate.set()
        await raw.until(lambda: len([packet for packet in raw.packets if packet.startswith("43")]) == 10)
        assert [packet for packet in raw.packets if packet.startswith("43")] == [f"43{n}[{n}]" for n in range(10)]
        await websocket.close()
