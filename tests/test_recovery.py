"""Connection state recovery with stock clients: what comes back after a drop, on whatever node."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest
from redis.asyncio import Redis

from realtime.envelope import Frame
from realtime.shards import Shards
from server.embedded import EmbeddedServers
from tests.clients.javascript import JavaScriptClient
from tests.clients.raw import RawSocket, raw_socket
from tests.clients.user import Client, Refused, eventually, ok
from tests.conftest import require_node
from tests.nodes import Node
from tests.proxy import Proxy

Connect = Callable[..., Any]
UserId = Callable[[str], str]
Pair = tuple[Node, Node]


@pytest.fixture(scope="module")
async def pair(stores: EmbeddedServers) -> AsyncIterator[Pair]:
    """Two nodes of one cluster."""
    require_node()
    database = f"test_{secrets.token_hex(8)}"
    one, two = (Node(stores.mongodb_url, stores.redis_url, database) for _ in range(2))
    await asyncio.gather(one.start(), two.start())
    yield one, two
    await asyncio.gather(one.stop(), two.stop())


async def make_room(owner: Client, *members: str, kind: str = "group") -> str:
    """A room of these; returns its id."""
    room = await ok(owner, "room:create", {"kind": kind, "title": "Room", "memberIds": list(members)})
    return str(room["room"]["roomId"])


async def send(client: Client, room_id: str, *texts: str) -> None:
    """Send messages, one after the other."""
    for text in texts:
        await ok(client, "message:send", {"roomId": room_id, "text": text})


def texts(client: Client) -> list[str]:
    """The texts of all messages received so far."""
    return [message["text"] for message in client.received.of("message:received")]


def since(client: Client, mark: int) -> list[str]:
    """The names of the events after the first `mark`, without presence."""
    return [name for name, _ in client.received.all[mark:] if not name.startswith("user:o")]


class Device:
    """A raw client: it keeps the pid and the last offset, as stock JavaScript clients do."""

    def __init__(self, raw: RawSocket) -> None:
        self.raw = raw

    async def connect(self, token: str, pid: str | None = None, offset: str | None = None) -> dict[str, Any]:
        """CONNECT and return what the server answers."""
        await self.raw.send("40" + json.dumps({"token": token, "pid": pid, "offset": offset}))
        await self.raw.until(lambda: any(packet.startswith("40") for packet in self.raw.packets))
        (answer,) = (packet for packet in self.raw.packets if packet.startswith("40"))
        await self.raw.until(lambda: self.raw.events("session:ready"))
        opened: dict[str, Any] = json.loads(answer[2:])
        return opened

    @property
    def offset(self) -> str | None:
        """The last string argument of an event."""
        last = None
        for packet in self.raw.packets:
            if packet.startswith("42["):
                *_, argument = json.loads(packet[2:])
                last = argument if isinstance(argument, str) else last
        return last

    def texts(self) -> list[str]:
        """The texts of all messages so far."""
        return [message["text"] for message in self.raw.events("message:received")]


# --- what comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_back_on_the_same_node(pair: Pair, connect: Connect, user_id: UserId, transport: str) -> None:
    """A client that comes back to its node is the same session, and has exactly what it missed, in order."""
    node, _ = pair
    alice: JavaScriptClient = await connect(node, user_id("alice"), kind="javascript", transports=(transport,))
    bob = await connect(node, user_id("bob"), auth={"recovery": False})
    room_id = await make_room(bob, alice.user_id)
    await send(bob, room_id, "one", "two")
    await eventually(lambda: texts(alice) == ["one", "two"])
    before, mark = alice.id, len(alice.received.all)
    await alice.drop()
    await send(bob, room_id, "three")
    await ok(bob, "message:edit", {"roomId": room_id, "seq": 1, "text": "uno"})
    await ok(bob, "message:react", {"roomId": room_id, "seq": 2, "emoji": "👍"})
    await send(bob, room_id, "four")
    await ok(bob, "message:delete", {"roomId": room_id, "seq": 2})
    ready = await alice.back()
    assert (alice.recovered, alice.id, ready["sessionId"]) == (True, before, before)
    assert texts(alice) == ["one", "two", "three", "four"]
    assert [name for name in since(alice, mark) if name != "unread:updated"] == [
        "message:received", "message:edited", "message:reaction", "message:received", "message:deleted",
        "session:ready",
    ]  # fmt: skip
    await send(bob, room_id, "five")
    await send(alice, room_id, "six")
    await eventually(lambda: texts(alice) == ["one", "two", "three", "four", "five"] and texts(bob) == ["six"])


async def test_back_on_another_node(pair: Pair, connect: Connect, user_id: UserId) -> None:
    """On another node, too: messages, changes, receipts, members, notifications; and back again."""
    one, two = pair
    alice: JavaScriptClient = await connect(one, user_id("alice"), kind="javascript")
    bob = await connect(two, user_id("bob"))
    room_id = await make_room(bob, alice.user_id)
    await send(bob, room_id, "one")
    await eventually(lambda: texts(alice) == ["one"])
    before = alice.id
    for node, other in ((two, one), (one, two)):
        await alice.drop()
        mark = len(alice.received.all)
        hello = f"hello from {other.port}"
        mention = {"roomId": room_id, "text": hello, "mentions": [alice.user_id]}
        await ok(bob, "message:send", mention)
        await ok(bob, "message:edit", {"roomId": room_id, "seq": 1, "text": f"edited {other.port}"})
        await ok(bob, "message:react", {"roomId": room_id, "seq": 1, "emoji": "🎉", "remove": node is one})
        await ok(bob, "room:invite", {"roomId": room_id, "userIds": [user_id(f"carol{other.port}")]})
        await ok(bob, "room:update", {"roomId": room_id, "title": f"Room {other.port}"})
        await bob.received.next("room:updated")
        await alice.back(node.url)
        assert (alice.recovered, alice.id) == (True, before)
        assert alice.received.all[mark:].count(("session:ready", alice.received.of("session:ready")[-1])) == 1
        names = set(since(alice, mark))
        assert names >= {"message:received", "message:edited", "message:reaction", "member:joined", "room:updated"}
        await eventually(lambda mark=mark: "notification" in since(alice, mark))  # type: ignore[misc]
        assert texts(alice)[-1] == hello
        await send(bob, room_id, "live")
        await eventually(lambda: texts(alice)[-1] == "live")
    seqs = [message["seq"] for message in alice.received.of("message:received")]
    assert sorted(set(seqs)) == [1, 2, 3, 4, 5]


async def test_rooms_left_and_joined_meanwhile(pair: Pair, connect: Connect, user_id: UserId) -> None:
    """Rooms are those of now: one that was left is neither rejoined nor replayed, one that was joined is."""
    one, two = pair
    alice: JavaScriptClient = await connect(one, user_id("alice"), kind="javascript")
    bob = await connect(two, user_id("bob"))
    left = await make_room(bob, alice.user_id)
    joined = await make_room(bob)
    await send(bob, left, "before")
    await send(bob, joined, "long ago")
    await eventually(lambda: texts(alice) == ["before"])
    await alice.drop()
    await send(bob, left, "not for her")
    await ok(bob, "room:kick", {"roomId": left, "userId": alice.user_id})
    await ok(bob, "room:invite", {"roomId": joined, "userIds": [alice.user_id]})
    await send(bob, joined, "welcome")
    await alice.back(two.url)
    assert alice.recovered
    assert "not for her" not in texts(alice)
    assert texts(alice)[-1] == "welcome"
    assert [room["roomId"] for room in alice.received.of("room:removed")] == [left]
    assert [added["room"]["roomId"] for added in alice.received.of("room:added")] == [left, joined]
    await send(bob, left, "still not")
    await send(bob, joined, "again")
    await eventually(lambda: texts(alice)[-1] == "again")
    assert "still not" not in texts(alice)


async def test_the_old_node_is_dead(start_node: Connect, connect: Connect, user_id: UserId) -> None:
    """A node is killed while people write on it and on another: what was acknowledged reaches whoever comes back."""
    require_node()
    one, two = await start_node(), await start_node()
    alice: JavaScriptClient = await connect(one, user_id("alice"), kind="javascript")
    carol = await connect(one, user_id("carol"))
    bob = await connect(two, user_id("bob"))
    rooms = [await make_room(bob, alice.user_id, carol.user_id) for _ in range(2)]
    acknowledged: list[tuple[str, int]] = []
    stop = asyncio.Event()

    async def write(client: Client) -> None:
        while not stop.is_set():
            for room_id in rooms:
                answer = await client.call("message:send", {"roomId": room_id, "text": "x"}, seconds=2)
                if answer.get("success"):
                    acknowledged.append((room_id, answer["seq"]))

    writers = [asyncio.create_task(write(client)) for client in (bob, carol)]
    await eventually(lambda: len(alice.received.of("message:received")) > 40)
    one.kill()
    await eventually(lambda: not alice.connected)
    before, mark = alice.id, len(alice.received.of("message:received"))
    count = len(acknowledged)
    await eventually(lambda: len(acknowledged) > count + 40)
    await alice.back(two.url)
    assert (alice.recovered, before) == (True, None)
    count = len(acknowledged)
    await eventually(lambda: len(acknowledged) > count + 10)
    stop.set()
    await asyncio.gather(*writers, return_exceptions=True)

    def received() -> list[tuple[str, int]]:
        return [(message["roomId"], message["seq"]) for message in alice.received.of("message:received")]

    await eventually(lambda: set(acknowledged) <= set(received()))
    for room_id in rooms:
        for some in (received()[:mark], received()[mark:]):
            seqs = [seq for name, seq in some if name == room_id]
            assert seqs == sorted(set(seqs))


async def test_a_node_that_is_stopped(start_node: Connect, connect: Connect, user_id: UserId) -> None:
    """Whom a node sends away when it is stopped goes on at another."""
    require_node()
    one, two = await start_node(), await start_node()
    alice: JavaScriptClient = await connect(one, user_id("alice"), kind="javascript")
    bob = await connect(two, user_id("bob"))
    room_id = await make_room(bob, alice.user_id)
    await send(bob, room_id, "one")
    await eventually(lambda: texts(alice) == ["one"])
    before = alice.id
    assert await one.terminate() == 0
    await eventually(lambda: not alice.connected)
    await send(bob, room_id, "two")
    await alice.back(two.url)
    assert (alice.recovered, alice.id, texts(alice)[-1]) == (True, before, "two")


async def test_messages_that_no_log_has(pair: Pair, stores: EmbeddedServers, connect: Connect, user_id: UserId) -> None:
    """What was stored and is missing in the log comes all the same, in its place."""
    one, two = pair
    alice: JavaScriptClient = await connect(one, user_id("alice"), kind="javascript")
    bob = await connect(two, user_id("bob"))
    rooms = [await make_room(bob, alice.user_id) for _ in range(3)]
    for room_id in rooms:
        await send(bob, room_id, "1", "2")
    await eventually(lambda: len(texts(alice)) == 6)
    await alice.drop()
    mark = len(alice.received.all)
    for room_id in rooms:
        await send(bob, room_id, "3", "4", "5", "6", "7")
    client: Any = Redis.from_url(stores.redis_url)
    async with client as redis:
        for room_id, lost in zip(rooms, ({3, 5, 7}, {3, 4, 5, 6, 7}, {7}), strict=True):
            log = Shards(one.database).name(f"room:{room_id}")
            for entry_id, fields in await redis.xrange(log):
                if Frame(*msgpack.unpackb(fields[b"e"])).seq in lost:
                    await redis.xdel(log, entry_id)
    await alice.back(two.url)
    assert alice.recovered
    for room_id in rooms:
        messages = [payload for name, payload in alice.received.all[mark:] if name == "message:received"]
        seqs = [message["seq"] for message in messages if message["roomId"] == room_id]
        assert seqs == sorted(set(seqs))
        assert seqs[-5:] == [3, 4, 5, 6, 7]
    await send(bob, rooms[0], "8")
    await eventually(lambda: texts(alice)[-1] == "8")


# --- whose it is ----------------------------------------------------------------------------------------------------


async def test_a_pid_is_used_once(pair: Pair, connect: Connect, user_id: UserId) -> None:
    """Of two that bring the same pid at once one gets the session; of others' pids, and unknown ones, nobody."""
    one, two = pair
    alice, mallory = user_id("alice"), user_id("mallory")
    bob = await connect(two, user_id("bob"))
    room_id = await make_room(bob, alice, mallory)
    async with raw_socket(one) as raw:
        opened = await Device(raw).connect(one.token(alice))
        await send(bob, room_id, "one")
        await raw.until(lambda: raw.events("message:received"))
        offset = Device(raw).offset
    await send(bob, room_id, "two")
    async with raw_socket(two) as raw:
        device = Device(raw)
        assert (await device.connect(two.token(mallory), opened["pid"], offset))["pid"] != opened["pid"]
        assert device.texts() == []
    async with raw_socket(one) as first, raw_socket(two) as second:
        devices = [Device(first), Device(second)]
        answers = await asyncio.gather(*(device.connect(one.token(alice), opened["pid"], offset) for device in devices))
        assert sorted(answer == opened for answer in answers) == [False, True]
        assert sorted(device.texts() for device in devices) == [[], ["two"]]
        assert len({answer["sid"] for answer in answers} | {answer["pid"] for answer in answers}) == 4


@pytest.mark.parametrize(
    ("pid", "offset"),
    [("x" * 24, None), ("../../x", None), (5, None), ("x" * 24, "zzzzzzzzzz.node.1"), ("x" * 24, 7), ({}, [])],
)
async def test_what_is_no_pid_is_a_new_session(pair: Pair, user_id: UserId, pid: Any, offset: Any) -> None:
    """Whatever stands where pid and offset should be, the client is served."""
    async with raw_socket(pair[0]) as raw:
        opened = await Device(raw).connect(pair[0].token(user_id("alice")), pid, offset)
        assert opened["pid"] != pid
        assert (await raw.call("room:list"))["success"]


async def test_a_client_without_recovery(pair: Pair, connect: Connect, user_id: UserId) -> None:
    """With `recovery: false` there is no pid, and no event has an argument more."""
    node, _ = pair
    bob = await connect(node, user_id("bob"))
    async with raw_socket(node) as raw:
        await raw.send("40" + json.dumps({"token": node.token(user_id("alice")), "recovery": False}))
        await raw.until(lambda: raw.events("session:ready"))
        room_id = await make_room(bob, user_id("alice"))
        await send(bob, room_id, "one")
        await raw.until(lambda: raw.events("message:received"))
        assert all("pid" not in packet for packet in raw.packets if packet.startswith("40"))
        assert all(len(json.loads(packet[2:])) == 2 for packet in raw.packets if packet.startswith("42["))


async def test_who_leaves_does_not_come_back(pair: Pair, connect: Connect, user_id: UserId) -> None:
    """A session that its client, or another device, has ended is gone; a token that has expired is refused."""
    one, two = pair
    alice = user_id("alice")
    async with raw_socket(one) as raw:
        opened = await Device(raw).connect(one.token(alice))
        await raw.send("41")
    async with raw_socket(two) as raw:
        assert (await Device(raw).connect(two.token(alice), opened["pid"]))["pid"] != opened["pid"]
    phone: JavaScriptClient = await connect(one, alice, kind="javascript")
    desk = await connect(two, alice)
    ended = phone.id
    await ok(desk, "session:end", {"sessionId": ended})
    await eventually(lambda: not phone.connected)
    await phone.back()
    assert (phone.recovered, phone.id != ended) == (False, True)
    before = phone.id
    await phone.drop()
    with pytest.raises(Refused) as refusal:
        await phone.back(token=one.token(alice, ttl_seconds=-1))
    assert refusal.value.data["code"] == "TOKEN_EXPIRED"
    await phone.back(token=one.token(alice))
    assert (phone.recovered, phone.id) == (True, before)


# --- while the old connection still seems to be there ---------------------------------------------------------------


@pytest.mark.parametrize("back_to", [0, 1])
async def test_half_open(pair: Pair, connect: Connect, user_id: UserId, back_to: int) -> None:
    """A node that has not noticed yet gives the session up when the client does not answer it."""
    one, two = pair
    proxy = Proxy(one.url)
    await proxy.start()
    alice: JavaScriptClient = await connect(one, user_id("alice"), kind="javascript", url=proxy.url)
    bob = await connect(two, user_id("bob"))
    room_id = await make_room(bob, alice.user_id)
    await send(bob, room_id, "one")
    await eventually(lambda: texts(alice) == ["one"])
    before = alice.id
    proxy.swallow()
    await alice.drop()
    await send(bob, room_id, "two")
    await alice.back(pair[back_to].url)
    assert (alice.recovered, alice.id, texts(alice)) == (True, before, ["one", "two"])
    sessions = (await ok(alice, "session:list"))["sessions"]
    assert [session["sessionId"] for session in sessions] == [before]
    await send(bob, room_id, "three")
    await eventually(lambda: texts(alice) == ["one", "two", "three"])
    await proxy.close()


@pytest.mark.parametrize("back_to", [0, 1])
async def test_a_live_session_is_not_taken(pair: Pair, user_id: UserId, back_to: int) -> None:
    """While the client of a pid is there and answers, whoever else brings it gets a new session."""
    alice = user_id("alice")
    async with raw_socket(pair[0]) as raw, raw_socket(pair[back_to]) as other:
        opened = await Device(raw).connect(pair[0].token(alice))
        answer = await Device(other).connect(pair[0].token(alice), opened["pid"])
        assert answer["pid"] != opened["pid"]
        assert answer["sid"] != opened["sid"]
        assert len((await raw.call("session:list"))["sessions"]) == 2
        await raw.close()
        async with raw_socket(pair[back_to]) as third:
            assert await Device(third).connect(pair[0].token(alice), opened["pid"]) == opened


# --- when it cannot be done -----------------------------------------------------------------------------------------


async def test_more_than_is_kept(pair: Pair, connect: Connect, user_id: UserId) -> None:
    """Whoever has missed more than the log of a room holds gets a new session, which works."""
    one, two = pair
    alice: JavaScriptClient = await connect(one, user_id("alice"), kind="javascript")
    bob = await connect(two, user_id("bob"))
    room_id = await make_room(bob, alice.user_id)
    await send(bob, room_id, "one")
    await eventually(lambda: texts(alice) == ["one"])
    before = alice.id
    await alice.drop()
    for _ in range(8):
        await asyncio.gather(*(send(bob, room_id, "x") for _ in range(100)))
    ready = await alice.back(two.url)
    assert (alice.recovered, texts(alice)) == (False, ["one"])
    assert alice.id == ready["sessionId"] != before
    await send(bob, room_id, "live")
    await eventually(lambda: texts(alice) == ["one", "live"])


async def test_without_redis(stores: EmbeddedServers, start_node: Connect, connect: Connect, user_id: UserId) -> None:
    """While Redis is away clients come back to new sessions; what it has missed is not taken for nothing."""
    require_node()
    proxy = Proxy(stores.redis_url)
    await proxy.start()
    node = await start_node(redis_url=proxy.url)
    alice: JavaScriptClient = await connect(node, user_id("alice"), kind="javascript")
    carol: JavaScriptClient = await connect(node, user_id("carol"), kind="javascript")
    bob = await connect(node, user_id("bob"))
    room_id = await make_room(bob, alice.user_id, carol.user_id)
    await send(bob, room_id, "one")
    await eventually(lambda: texts(alice) == texts(carol) == ["one"])
    await alice.drop()
    await carol.drop()
    await proxy.refuse()
    await send(bob, room_id, "two")
    await alice.back()
    assert not alice.recovered
    await send(bob, room_id, "three")
    await eventually(lambda: texts(alice) == ["one", "three"])
    await proxy.accept()
    await eventually(lambda: node.log_text().count("bus connected") == 2)
    await carol.back()
    assert not carol.recovered
    assert not [line for line in node.log_text().splitlines() if "Traceback" in line]
    await alice.drop()
    await send(bob, room_id, "four")
    await alice.back()
    await send(bob, room_id, "five")
    await eventually(lambda: texts(alice)[-1] == "five")
    await proxy.close()


async def test_a_storm(pair: Pair, connect: Connect, user_id: UserId) -> None:
    """Two hundred clients drop and come back at once, half of them to another node: each has what it missed."""
    users = [user_id(f"user{number}") for number in range(200)]
    bob = await connect(pair[0], user_id("bob"))
    room_id = await make_room(bob, *users[:100])
    await ok(bob, "room:invite", {"roomId": room_id, "userIds": users[100:]})
    await send(bob, room_id, "one")

    async def begin(user: str) -> tuple[dict[str, Any], str | None]:
        async with raw_socket(pair[0]) as raw:
            opened = await Device(raw).connect(pair[0].token(user))
            await send_once(raw)
            return opened, Device(raw).offset

    here = asyncio.Barrier(201)

    async def send_once(raw: RawSocket) -> None:
        await here.wait()
        await raw.until(lambda: "two" in Device(raw).texts())

    beginning = [asyncio.create_task(begin(user)) for user in users]
    await here.wait()
    await send(bob, room_id, "two")
    opened = await asyncio.gather(*beginning)
    await send(bob, room_id, "three", "four")

    async def come_back(number: int) -> bool:
        before, offset = opened[number]
        async with raw_socket(pair[number % 2]) as raw:
            after = await Device(raw).connect(pair[0].token(users[number]), before["pid"], offset)
            return after == before and Device(raw).texts() == ["three", "four"]

    assert all(await asyncio.gather(*(come_back(number) for number in range(200))))
