"""Foreign emitters: stock processes that know only Redis reach users, rooms and everybody, and no more than that."""

import asyncio
import os
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from server.embedded import EmbeddedServers
from tests.clients.emitters import ForeignEmitter, OfficialEmitter, PythonEmitter
from tests.clients.raw import raw_socket
from tests.clients.user import EVENT_SECONDS, Client, eventually, ok
from tests.conftest import require_node
from tests.nodes import ROOT, Node

Connect = Callable[..., Any]
UserId = Callable[[str], str]
FLOOD = 20_000
FLOOD_SECONDS = 30.0
EMITTERS: dict[str, Callable[[str], ForeignEmitter]] = {"python": PythonEmitter, "official": OfficialEmitter}


@pytest.fixture(scope="module")
async def redis_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServers]:
    """A Valkey on which nobody else listens to the emitters' channels."""
    servers = EmbeddedServers(tmp_path_factory.mktemp("emitters"), mongodb=False, redis=True)
    await servers.start()
    yield servers
    await servers.stop()


@pytest.fixture(scope="module")
async def pair(stores: EmbeddedServers, redis_server: EmbeddedServers) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes of one cluster."""
    first, second = (
        Node(stores.mongodb_url, redis_server.redis_url, "test_emitters", MAX_PAYLOAD_BYTES="2000") for _ in range(2)
    )
    await asyncio.gather(first.start(), second.start())
    for node in (first, second):
        await heard(node)
    yield first, second
    await first.stop()
    await second.stop()


async def metrics(node: Node) -> dict[tuple[str, ...], float]:
    """The node's metrics by name and labels."""
    async with aiohttp.ClientSession() as http, http.get(node.url + "/health/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels, reverse=True))): sample.value
        for family in families
        for sample in family.samples
    }


async def heard(node: Node) -> None:
    """Wait until a node listens to the emitters."""
    while (await metrics(node))["parley_emitters_connected",] != 1:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)


async def dropped(node: Node) -> Counter[tuple[str, str]]:
    """How many commands a node has dropped so far, by source and reason."""
    return Counter(
        {
            (labels[0], labels[1]): int(value)
            for (name, *labels), value in (await metrics(node)).items()
            if name == "parley_foreign_events_total" and labels[1] != "ok"
        }
    )


def require_emitter() -> None:
    """Skip, with one line of reason, where Node.js or the official emitter is not installed."""
    require_node()
    if not (ROOT / "node_modules" / "@socket.io" / "redis-emitter").exists():
        pytest.skip("node_modules/@socket.io/redis-emitter is missing")


@pytest.fixture(params=list(EMITTERS))
async def emitter(request: pytest.FixtureRequest, redis_server: EmbeddedServers) -> AsyncIterator[ForeignEmitter]:
    """Each of the stock emitters in turn."""
    if request.param == "official":
        require_emitter()
    emitter = EMITTERS[request.param](redis_server.redis_url)
    yield emitter
    await emitter.close()


@pytest.fixture
async def official(redis_server: EmbeddedServers) -> AsyncIterator[OfficialEmitter]:
    """The official emitter."""
    require_emitter()
    emitter = OfficialEmitter(redis_server.redis_url)
    yield emitter
    await emitter.close()


@pytest.fixture
async def python(redis_server: EmbeddedServers) -> AsyncIterator[PythonEmitter]:
    """python-socketio's write-only manager."""
    emitter = PythonEmitter(redis_server.redis_url)
    yield emitter
    await emitter.close()


def session_id(client: Client) -> str:
    """The id of a device's session."""
    (ready,) = client.received.of("session:ready")
    return str(ready["sessionId"])


def told(client: Client) -> list[Any]:
    """What the emitters have told a device."""
    return [payload for event, payload in client.received.all if event in ("news", "notification")]


async def last_told(client: Client, payload: Any, seconds: float = EVENT_SECONDS) -> None:
    """Wait until this is the last thing that the emitters have told a device."""
    await eventually(lambda: told(client)[-1:] == [payload], seconds)


async def test_they_reach_users_rooms_and_everybody(
    pair: tuple[Node, Node], emitter: ForeignEmitter, connect: Connect, user_id: UserId, client_kind: str
) -> None:
    """On both nodes each device gets what it is meant to get, once, in order; nobody being there is no trouble."""
    alice = await connect(pair[0], user_id("alice"), kind=client_kind)
    tablet = await connect(pair[1], alice.user_id, kind=client_kind)
    bob = await connect(pair[1], user_id("bob"), kind=client_kind)
    members = {"kind": "group", "memberIds": [bob.user_id]}
    room = f"room:{(await ok(alice, 'room:create', members))['room']['roomId']}"
    await bob.received.next("room:added")

    await emitter.emit("news", {"to": "alice"}, rooms=[f"user:{alice.user_id}"])
    await emitter.emit("notification", {"to": "room", "text": "ünïcödé €"}, rooms=[room])
    await emitter.emit("news", {"to": "nobody"}, rooms=["user:nobody", "room:*", "\x00 #?[", ""])
    await emitter.emit("news", {"to": "both", "once": [1.5, None, True]}, rooms=[room, f"user:{bob.user_id}"])
    await emitter.emit("news", {"to": "one"}, rooms=[session_id(alice)])
    await emitter.emit("news", {"to": "others"}, rooms=[room], skip=[session_id(alice)])
    await emitter.emit("news", ["everybody"])
    for client in (alice, tablet, bob):
        await last_told(client, ["everybody"])

    both = [{"to": "room", "text": "ünïcödé €"}, {"to": "both", "once": [1.5, None, True]}]
    assert told(alice) == [{"to": "alice"}, *both, {"to": "one"}, ["everybody"]]
    assert told(tablet) == [{"to": "alice"}, *both, {"to": "others"}, ["everybody"]]
    assert told(bob) == [*both, {"to": "others"}, ["everybody"]]


async def test_what_they_send_is_one_argument_and_nothing_else(
    pair: tuple[Node, Node], official: OfficialEmitter, python: PythonEmitter, user_id: UserId
) -> None:
    """On the wire: the event's name and its argument, null without one, a Date as text; no offset."""
    async with raw_socket(pair[0], alice := user_id("alice")) as raw:
        before, rooms = len(raw.packets), [f"user:{alice}"]
        for emitter in (official, python):
            await emitter.emit("news", {"n": 1}, rooms=rooms)
            await emitter.emit("news", rooms=rooms)
        await official.call("emit", "news", rooms=rooms, date=1_700_000_000_123)
        await raw.until(lambda: len(raw.packets) - before >= 5)
        assert raw.packets[before:] == [
            *2 * ['42["news",{"n":1}]', '42["news",null]'],
            '42["news",{"date":"2023-11-14T22:13:20.123Z"}]',
        ]


async def test_rooms_of_their_own(
    pair: tuple[Node, Node], official: OfficialEmitter, python: PythonEmitter, connect: Connect, user_id: UserId
) -> None:
    """Emitters put sessions into rooms of their own and take them out; a room can be left out of another."""
    alice, bob = await connect(pair[0], user_id("alice")), await connect(pair[1], user_id("bob"))
    users = [f"user:{alice.user_id}", f"user:{bob.user_id}"]
    await official.call("socketsJoin", ["lobby", "node:all"], rooms=users)
    await official.call("socketsJoin", "desk", rooms=users[:1])
    await official.emit("news", 1, rooms=["lobby"])
    await official.emit("news", 2, rooms=["lobby"], skip=["desk"])
    await official.emit("news", 3, rooms=["node:all"], skip=["user:nobody"])
    await official.call("socketsLeave", ["lobby", "node:all"], rooms=users, skip=["desk"])
    await official.emit("news", 4, rooms=["lobby"])
    await official.emit("news", 5)
    for client in (alice, bob):
        await last_told(client, 5)
    for client in (alice, bob):
        await python.manager.enter_room(session_id(client), "/", "hall")
    await python.emit("news", 6, rooms=["hall"])
    await python.manager.leave_room(session_id(bob), "/", "hall")
    await python.emit("news", 7, rooms=["hall"])
    await python.manager.close_room("hall")
    await python.emit("news", 8, rooms=["hall"])
    await python.emit("news", 9)
    for client, numbers in ((alice, [1, 3, 4, 5, 6, 7, 9]), (bob, [1, 2, 3, 5, 6, 9])):
        await last_told(client, 9)
        assert told(client) == numbers
    room_id = (await ok(alice, "room:create", {"kind": "group", "memberIds": [bob.user_id]}))["room"]["roomId"]
    await ok(alice, "message:send", {"roomId": room_id, "text": "the bus is whole"})
    assert (await bob.received.next("message:received"))["text"] == "the bus is whole"


async def test_rooms_have_an_end(
    pair: tuple[Node, Node], official: OfficialEmitter, connect: Connect, user_id: UserId
) -> None:
    """A session takes a hundred rooms from emitters; the rest is dropped and counted."""
    alice = await connect(pair[0], user_id("alice"))
    before = await dropped(pair[0])
    await official.call("socketsJoin", [f"r{n}" for n in range(60)], rooms=[f"user:{alice.user_id}"])
    await official.call("socketsJoin", [f"r{n}" for n in range(120)], rooms=[f"user:{alice.user_id}"])
    for n in (0, 99, 100, 119):
        await official.emit("news", n, rooms=[f"r{n}"])
    await official.emit("news", "end")
    await last_told(alice, "end")
    assert told(alice) == [0, 99, "end"]
    assert await dropped(pair[0]) - before == {("redis-emitter", "room"): 1}


async def test_they_end_connections(
    pair: tuple[Node, Node], official: OfficialEmitter, python: PythonEmitter, connect: Connect, user_id: UserId
) -> None:
    """A room's, one session's, everybody's but some: told why, and not to come back."""
    alice, bob, carol, dave = [
        await connect(node, user_id(name), kind=kind, reconnection=True)
        for name, node, kind in (
            ("alice", pair[0], "python"),
            ("bob", pair[1], "javascript"),
            ("carol", pair[0], "javascript"),
            ("dave", pair[1], "python"),
        )
    ]
    await official.call("disconnectSockets", True, rooms=[f"user:{alice.user_id}"])
    await eventually(lambda: not alice.connected)
    await python.manager.can_disconnect(session_id(bob), "/")
    await eventually(lambda: not bob.connected)
    assert carol.connected
    await official.call("disconnectSockets", skip=[f"user:{carol.user_id}"])
    await eventually(lambda: not dave.connected)
    await official.emit("news", "still there")
    await last_told(carol, "still there")
    assert carol.connected
    assert not carol.received.of("session:closed")
    for client in (alice, bob, dave):
        assert client.received.of("session:closed") == [{"code": "DISCONNECTED", "reconnect": False}]
        assert not client.connected


async def test_what_is_not_theirs_is_dropped_and_counted(
    pair: tuple[Node, Node], official: OfficialEmitter, python: PythonEmitter, connect: Connect, user_id: UserId
) -> None:
    """Names of the contract, memberships, other namespaces, more or other than one JSON argument, too much of it."""
    node, alice = pair[0], await connect(pair[0], user_id("alice"))
    room = f"room:{(await ok(alice, 'room:create', {'kind': 'group'}))['room']['roomId']}"
    before, events = await dropped(node), len(alice.received.all)
    emitters: tuple[ForeignEmitter, ...] = (python, official)
    for emitter in emitters:
        for event in ("message:received", "message:send", "session:closed", "notification:read", "typing:start"):
            await emitter.emit(event, {"roomId": room}, rooms=[room])
        await emitter.emit("news", 1, 2)
        await emitter.emit("news", {"text": "é" * 1_000})
        await emitter.emit("news", {"n": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]})
    await python.emit("disconnect", 1)
    await python.emit("news", b"binary")
    await python.emit("news", float("nan"))
    await python.emit("news", "\ud800")
    await python.manager.emit("news", 1, namespace="/admin")
    await python.manager.enter_room(session_id(alice), "/", "room:elsewhere")
    await python.manager.leave_room(session_id(alice), "/", f"user:{alice.user_id}")
    await python.manager.close_room(room)
    await official.call("socketsJoin", ["hall", "user:bob"], rooms=[room])
    await official.call("socketsLeave", [room], rooms=[room])
    await official.call("serverSideEmit", "hello")
    await official.call("emit", "news", 1, namespace="/admin")
    for number, emitter in enumerate(emitters):
        await emitter.emit("news", number, rooms=[room])
        await last_told(alice, number)

    assert alice.received.all[events:] == [("news", 0), ("news", 1)]
    assert await dropped(node) - before == {
        ("python-socketio", "event"): 6,
        ("python-socketio", "argument"): 3,
        ("python-socketio", "malformed"): 2,
        ("python-socketio", "too_large"): 1,
        ("python-socketio", "namespace"): 1,
        ("python-socketio", "room"): 3,
        ("redis-emitter", "event"): 5,
        ("redis-emitter", "argument"): 2,
        ("redis-emitter", "too_large"): 1,
        ("redis-emitter", "room"): 2,
        ("redis-emitter", "unsupported"): 1,
    }


class _Trap:
    """Unpickled, it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


async def test_a_hostile_flood_stops_nobody(
    pair: tuple[Node, Node], redis_server: EmbeddedServers, python: PythonEmitter, connect: Connect, user_id: UserId,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Garbage without end on all channels: acks go on meanwhile, nothing is unpickled, nothing of it is logged."""
    alice, bob = await connect(pair[0], user_id("alice")), await connect(pair[1], user_id("bob"))
    room_id = (await ok(alice, "room:create", {"kind": "group"}))["room"]["roomId"]
    trap = pickle.dumps({"method": "emit", "data": _Trap(tmp_path / "sprung")})
    bomb = b"\xdd\x00\x00\x27\x10" * 500
    async with Redis.from_url(redis_server.redis_url) as redis, redis.pipeline(transaction=False) as pipeline:
        for _ in range(FLOOD // 4):
            pipeline.publish("socketio", trap)
            pipeline.publish("socket.io#/#", bomb)
            pipeline.publish("socket.io#/#hostile-words#", b"hostile-words")
            pipeline.publish("socket.io-request#/#", b'{"type":' + b"[" * 1_000)
        flood = asyncio.create_task(pipeline.execute())
        acks = 0
        while not flood.done() or acks < 20:
            await ok(alice, "message:send", {"roomId": room_id, "text": "meanwhile"})
            acks += 1
        await flood
    await python.emit("news", "after")
    for client in (alice, bob):
        await last_told(client, "after", FLOOD_SECONDS)
        assert told(client) == ["after"]
    assert not (tmp_path / "sprung").exists()
    assert (await dropped(pair[0]))["python-socketio", "pickled"] == FLOOD // 4
    assert "hostile-words" not in pair[0].log_text()
    assert 1 <= pair[0].log_text().count("command dropped") < 50


async def test_they_are_heard_again_after_redis_died(
    pair: tuple[Node, Node], redis_server: EmbeddedServers, emitter: ForeignEmitter, connect: Connect, user_id: UserId
) -> None:
    """A Redis that was killed and came back is listened to again, without anything being done."""
    alice, bob = await connect(pair[0], user_id("alice")), await connect(pair[1], user_id("bob"))
    await emitter.emit("news", "before")
    killed = redis_server.pids["valkey"]
    for client in (alice, bob):
        await last_told(client, "before")
    os.kill(killed, 9)
    await eventually(lambda: redis_server.pids.get("valkey", killed) != killed)
    for client in (alice, bob):
        # Until the nodes are back, what is said passes them by.
        while told(client)[-1:] != ["again"]:
            await emitter.emit("news", "again")
            await asyncio.sleep(0.1)
