"""Presence on the wire: several devices are one status, watchers only, snapshot then diffs, on any node."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from server.embedded import EmbeddedServers
from tests.clients.user import Client, eventually, ok, refused
from tests.nodes import Node
from tests.proxy import Proxy
from tests.senders import make_room

Connect = Callable[..., Any]
UserId = Callable[[str], str]
GRACE_SECONDS = 5.0
CRASH_SECONDS = 30.0
SLACK_SECONDS = 2.5
"""A second between two events, the way there, and a busy machine."""


@pytest.fixture(scope="module")
async def pair(stores: EmbeddedServers) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes of one cluster."""
    nodes = (
        Node(stores.mongodb_url, stores.redis_url, "test_presence"),
        Node(stores.mongodb_url, stores.redis_url, "test_presence"),
    )
    await asyncio.gather(*(node.start() for node in nodes))
    yield nodes
    for node in nodes:
        await node.stop()


async def look(client: Client, user_id: str) -> dict[str, Any]:
    """How a user looks to this client now."""
    found: dict[str, Any] = (await ok(client, "presence:get", {"userIds": [user_id]}))["users"][user_id]
    return found


async def until_looks(client: Client, user_id: str, status: str, seconds: float = 5.0) -> dict[str, Any]:
    """Wait until a user looks like this to this client."""
    end = time.monotonic() + seconds
    while (found := await look(client, user_id))["status"] != status:
        assert time.monotonic() < end, f"{user_id} is {found}"
        await asyncio.sleep(0.05)
    return found


def told(client: Client, user_id: str) -> list[str]:
    """What this client was told of a user's coming and going, in order."""
    names = {"user:online", "user:status", "user:offline"}
    return [
        f"{name[5:]} {payload.get('status', '')}".strip()
        for name, payload in client.received.all
        if name in names and payload["userId"] == user_id
    ]


async def test_devices_on_two_nodes_are_one_status(pair: tuple[Node, Node], connect: Connect, user_id: UserId) -> None:
    """Busy or invisible on any wins, else online, else away; watchers hear of what changes by it, the rest does not."""
    alice, bob = user_id("alice"), user_id("bob")
    await make_room(pair[0], alice, [bob])
    watcher, stranger = await asyncio.gather(connect(pair[0], alice), connect(pair[1], user_id("carol")))
    ack = await ok(watcher, "presence:subscribe", {"userIds": [bob]})
    assert ack["users"] == {bob: {"status": "offline", "lastSeen": None, "devices": 0}}
    unseen = await ok(stranger, "presence:subscribe", {"userIds": [bob]})
    assert unseen["users"] == {bob: {"status": "offline", "lastSeen": None, "devices": 0}}

    phone = await connect(pair[0], bob)
    await eventually(lambda: told(watcher, bob) == ["online online"])
    laptop = await connect(pair[1], bob)
    await ok(phone, "presence:set", {"status": "away"})
    assert (await until_looks(watcher, bob, "online"))["devices"] == 2
    await ok(laptop, "presence:set", {"status": "busy"})
    assert await look(stranger, bob) == {"status": "offline", "lastSeen": None, "devices": 0}
    await eventually(lambda: told(watcher, bob)[-1] == "status busy")
    await ok(laptop, "presence:set", {"status": "away"})
    await eventually(lambda: told(watcher, bob)[-1] == "status away")
    await ok(phone, "presence:set", {"status": "invisible"})
    await eventually(lambda: told(watcher, bob)[-1] == "offline")
    assert watcher.received.of("user:offline")[-1]["lastSeen"] is None
    assert await look(watcher, bob) == {"status": "offline", "lastSeen": None, "devices": 0}
    await ok(phone, "presence:set", {"status": "online"})
    await eventually(lambda: told(watcher, bob)[-1] == "online online")
    assert told(watcher, bob) == ["online online", "status busy", "status away", "offline", "online online"]
    assert told(stranger, bob) == []

    await ok(watcher, "presence:unsubscribe", {"userIds": [bob]})
    await ok(laptop, "presence:set", {"status": "busy"})
    await until_looks(watcher, bob, "busy")
    assert told(watcher, bob)[-1] == "online online"


async def test_a_reload_shows_nothing_and_the_end_comes_after_the_grace(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """The other side of a direct room hears unasked: online once, nothing of reloads, offline 5 s after the last."""
    alice, bob = user_id("alice"), user_id("bob")
    watcher = await connect(pair[0], alice)
    await ok(watcher, "room:create", {"kind": "direct", "memberIds": [bob]})
    device = {"auth": {"deviceId": "tab"}}
    tab = await connect(pair[1], bob, **device)
    await eventually(lambda: told(watcher, bob) == ["online online"])
    await ok(tab, "presence:set", {"status": "busy"})
    await eventually(lambda: told(watcher, bob)[-1] == "status busy")
    await tab.close()
    back = await connect(pair[1], bob, **device)
    await eventually(lambda: told(back, alice) == ["online online"])
    assert (await look(watcher, bob))["status"] == "busy"
    await back.close()
    gone = time.monotonic()
    began = time.time()
    offline = await watcher.received.next("user:offline")
    assert GRACE_SECONDS - 0.2 < time.monotonic() - gone < GRACE_SECONDS + SLACK_SECONDS
    assert told(watcher, bob) == ["online online", "status busy", "offline"]
    found = await look(watcher, bob)
    assert (found["status"], found["lastSeen"]) == ("offline", offline["lastSeen"])
    seen = time.mktime(time.strptime(offline["lastSeen"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert abs(seen - began) < 2
    # From MongoDB, too, for somebody on a node that has never heard of it.
    late = await connect(pair[1], alice)
    assert (await look(late, bob))["lastSeen"] == offline["lastSeen"]


async def test_who_leaves_a_lone_node_is_told_by_it(server: Node, connect: Connect, user_id: UserId) -> None:
    """A watcher who came after the status was known sees the change, and the end after the grace, on the same node."""
    bob = await connect(server, user_id("bob"))
    alice = await connect(server, user_id("alice"))
    await make_room(server, user_id("alice"), [bob.user_id])
    await until_looks(alice, bob.user_id, "online")
    await ok(alice, "presence:subscribe", {"userIds": [bob.user_id]})
    await ok(bob, "presence:set", {"status": "busy"})
    assert (await alice.received.next("user:status"))["status"] == "busy"
    await bob.close()
    assert (await alice.received.next("user:offline", GRACE_SECONDS + SLACK_SECONDS))["userId"] == bob.user_id
    assert told(alice, bob.user_id) == ["status busy", "offline"]


async def test_a_burst_is_one_event_a_second(pair: tuple[Node, Node], connect: Connect, user_id: UserId) -> None:
    """Many changes within two seconds reach a watcher as a few, the last of them as it stays."""
    alice, bob = user_id("alice"), user_id("bob")
    await make_room(pair[0], alice, [bob])
    watcher, device = await asyncio.gather(connect(pair[0], alice), connect(pair[1], bob))
    await until_looks(watcher, bob, "online")
    await ok(watcher, "presence:subscribe", {"userIds": [bob]})
    began = time.monotonic()
    changes = 0
    while time.monotonic() - began < 2:
        await ok(device, "presence:set", {"status": ("away", "busy", "online")[changes % 3]})
        changes += 1
    await ok(device, "presence:set", {"status": "busy"})
    await eventually(lambda: told(watcher, bob)[-1:] == ["status busy"] and time.monotonic() - began > 3.2)
    assert changes > 20
    assert 2 <= len(told(watcher, bob)) <= 4


async def test_who_may_not_see_any_more_is_told_no_more(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """A block, either way, and the end of the last room in common hide people from each other on every node."""
    alice, bob, carol = user_id("alice"), user_id("bob"), user_id("carol")
    room_id = await make_room(pair[0], alice, [bob, carol])
    a, b, c = await asyncio.gather(connect(pair[0], alice), connect(pair[1], bob), connect(pair[1], carol))
    for client, others in ((a, [bob, carol]), (b, [alice, carol]), (c, [alice, bob])):
        for other in others:
            await until_looks(client, other, "online")
        await ok(client, "presence:subscribe", {"userIds": others})
    await ok(a, "user:block", {"userId": bob})
    assert [(await look(a, bob))["status"], (await look(b, alice))["status"]] == ["offline", "offline"]
    await eventually(lambda: told(a, bob) == ["offline"] and told(b, alice) == ["offline"])
    await ok(a, "room:kick", {"roomId": room_id, "userId": carol})
    await eventually(lambda: told(b, carol) == ["offline"] and told(c, bob) == ["offline"])
    await ok(c, "presence:set", {"status": "busy"})
    await ok(b, "presence:set", {"status": "busy"})
    assert (await look(c, bob))["status"] == "offline"
    assert (await look(c, carol))["status"] == "busy"
    assert (told(a, bob), told(b, carol), told(c, bob)) == (["offline"], ["offline"], ["offline"])


async def test_bad_presence(server: Node, connect: Connect, user_id: UserId, client_kind: str) -> None:
    """What is malformed is refused with its field; unknown users are merely offline; a watcher's list is bounded."""
    alice = await connect(server, user_id("alice"), kind=client_kind)
    for event, payload, field in (
        ("presence:set", {"status": "asleep"}, "status"),
        ("presence:get", {"userIds": ["no one"]}, "userIds.0"),
    ):
        error = await refused(alice, event, payload)
        assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", field)
    assert (await look(alice, "nobody-knows-me"))["status"] == "offline"
    assert (await look(alice, alice.user_id))["status"] == "online"


async def test_open_presence_is_bounded(start_node: Callable[..., Any], connect: Connect, user_id: UserId) -> None:
    """PRESENCE_OPEN=on shows strangers to each other; a connection watches 2,000 users and no more."""
    node = await start_node(PRESENCE_OPEN="on")
    alice, bob = await asyncio.gather(connect(node, user_id("alice")), connect(node, user_id("bob")))
    assert (await look(alice, bob.user_id))["status"] == "online"
    for start in range(0, 2_000, 500):
        await ok(alice, "presence:subscribe", {"userIds": [f"u{number}" for number in range(start, start + 500)]})
    error = await refused(alice, "presence:subscribe", {"userIds": [bob.user_id]})
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "userIds")
    await ok(alice, "presence:unsubscribe", {"userIds": ["u7"]})
    await ok(alice, "presence:subscribe", {"userIds": [bob.user_id]})


async def test_a_crash_shows_within_half_a_minute_and_redis_may_go_and_come(
    start_node: Callable[..., Any], stores: EmbeddedServers, connect: Connect, user_id: UserId
) -> None:
    """Without Redis a node sees its own; with it back, and empty, all again; a killed node's users go offline."""
    proxies = [Proxy(stores.redis_url) for _ in range(2)]
    for proxy in proxies:
        await proxy.start()
    nodes = [await start_node(redis_url=proxy.url) for proxy in proxies]
    alice, bob, carol = user_id("alice"), user_id("bob"), user_id("carol")
    await make_room(nodes[0], alice, [bob, carol])
    watcher, far = await asyncio.gather(connect(nodes[0], alice), connect(nodes[1], bob))
    await until_looks(watcher, bob, "online")
    await ok(watcher, "presence:subscribe", {"userIds": [bob, carol]})
    for proxy in proxies:
        await proxy.refuse()
    near = await connect(nodes[0], carol)
    await eventually(lambda: told(watcher, carol) == ["online online"])
    await ok(far, "presence:set", {"status": "busy"})
    assert told(watcher, bob) == []
    async with Redis.from_url(stores.redis_url) as redis:
        await redis.delete(*[key async for key in redis.scan_iter(f"{{{nodes[0].database}:presence}}:*")])
    for proxy in proxies:
        await proxy.accept()
    await eventually(lambda: told(watcher, bob) == ["status busy"])
    await until_looks(far, carol, "online")
    await near.close()

    nodes[1].kill()
    killed = time.monotonic()
    offline = await watcher.received.next("user:offline", CRASH_SECONDS)
    while offline["userId"] != bob:
        offline = await watcher.received.next("user:offline", CRASH_SECONDS - time.monotonic() + killed)
    print(f"offline {time.monotonic() - killed:.1f} s after the crash")
    assert offline["lastSeen"] is not None
    found = await look(watcher, bob)
    assert (found["status"], found["devices"]) == ("offline", 0)
    for proxy in proxies:
        await proxy.close()
