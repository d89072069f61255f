"""A server of one's own, with nothing of Parley: rooms on several nodes, and connection state recovery."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from realtime.create import create_server
from realtime.redis_servers import redis_source
from realtime.relay import Relay
from server.embedded import EmbeddedServers
from tests.clients.javascript import JavaScriptClient
from tests.clients.user import eventually
from tests.conftest import require_node


class Own:
    """One node of it. Clients greet themselves by a name, and join the rooms they ask for."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        self.source = redis_source(redis_url)
        self.server = create_server()
        self.outcomes: list[str] = []
        self.relay = Relay(self.server, self.source, prefix, self.outcomes.append)
        self.server.on("connect", self.connect)
        self.server.on("join", self.join)
        self.server.on("who", self.who)
        self.url = ""

    async def connect(self, sid: str, environ: Any, auth: Any) -> None:
        if not await self.server.get_session(sid):
            await self.server.save_session(sid, {"name": (auth or {}).get("name")})
        await self.server.emit("session:ready", {"rooms": sorted(self.server.rooms(sid)), "sessionId": sid}, to=sid)

    async def join(self, sid: str, room: str) -> bool:
        await self.server.enter_room(sid, room)
        return True

    async def who(self, sid: str) -> Any:
        return await self.server.get_session(sid)


@pytest.fixture
async def own(stores: EmbeddedServers) -> AsyncIterator[tuple[Own, Own]]:
    """Two nodes of it."""
    require_node()
    prefix = f"test_{secrets.token_hex(8)}"
    pair = Own(stores.redis_url, prefix), Own(stores.redis_url, prefix)
    runners = []
    for node in pair:
        app = web.Application()
        node.server.attach_to(app)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        node.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        runners.append(runner)
        await node.relay.start()
    yield pair
    for node, runner in zip(pair, runners, strict=True):
        await node.server.shutdown()
        await runner.cleanup()
        await node.relay.close()
        await node.source.close()


Connect = Callable[..., Any]


@pytest.fixture
async def join(own: tuple[Own, Own]) -> AsyncIterator[Connect]:
    """Connect a stock client: `await join(node, "alice")`."""
    clients: list[JavaScriptClient] = []

    async def join(node: Own, name: str) -> JavaScriptClient:
        client = JavaScriptClient(node.url, None, name, auth={"name": name})
        clients.append(client)
        await client.connect()
        return client

    yield join
    for client in clients:
        await client.close()


async def test_rooms_data_and_events_come_back(own: tuple[Own, Own], join: Connect) -> None:
    """On either node the session is as it was, and has what was emitted to its rooms, to it and to everybody."""
    one, two = own
    alice, bob = await join(one, "alice"), await join(two, "bob")
    await alice.call("join", "kitchen")
    await bob.call("join", "cellar")
    await two.server.emit("news", 0, room="kitchen")
    await one.server.emit("news", 0)
    await eventually(lambda: alice.received.of("news") == [0, 0] and bob.received.of("news") == [0])
    before = alice.id
    for number, (node, other) in enumerate(((one, two), (two, one)), 1):
        await alice.drop()
        await other.server.emit("news", f"kitchen {number}", room="kitchen")
        await other.server.emit("news", "cellar", room="cellar")
        await other.server.emit("news", f"everybody {number}")
        await other.server.emit("news", f"alone {number}", to=before)
        await alice.back(node.url)
        assert (alice.recovered, alice.id) == (True, before)
        rooms = sorted(["*", before, "kitchen"])
        await eventually(lambda: alice.received.of("session:ready")[-1]["rooms"] == rooms)  # noqa: B023
        assert await alice.call("who") == {"name": "alice"}
        missed = [f"kitchen {number}", f"everybody {number}", f"alone {number}"]
        await eventually(lambda: alice.received.of("news")[-3:] == missed)  # noqa: B023
        await other.server.emit("live", number, room="kitchen")
        await eventually(lambda: alice.received.of("live") == [*range(1, number + 1)])  # noqa: B023
    assert "cellar" not in alice.received.of("news")
    assert one.outcomes == two.outcomes == ["recovered"]


async def test_what_stays_on_its_node(own: tuple[Own, Own], join: Connect) -> None:
    """Attachments, callbacks, several rooms and skipped sessions work as ever."""
    one, two = own
    alice, bob, carol = await join(one, "alice"), await join(one, "bob"), await join(two, "carol")
    for client in (alice, bob, carol):
        await client.call("join", "kitchen")
    await one.server.emit("two rooms", 1, room=["kitchen", alice.id])
    await one.server.emit("not alice", 2, room="kitchen", skip_sid=alice.id)
    await one.server.emit("bytes", {"image": b"\x01\x02"}, room="kitchen")
    await one.server.emit("all", 3, room="kitchen")
    await asyncio.gather(*(client.received.until("all", 1) for client in (alice, bob, carol)))
    names = {
        client.user_id: [name for name, _ in client.received.all if name != "session:ready"]
        for client in (alice, bob, carol)
    }
    assert names == {
        "alice": ["two rooms", "bytes", "all"],
        "bob": ["two rooms", "not alice", "bytes", "all"],
        "carol": ["not alice", "all"],
    }
