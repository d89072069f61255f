"""Typing on the wire: the others of a room, on every node, know who is typing, and when no more."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from server.embedded import EmbeddedServers
from tests.clients.user import Client, eventually, ok, refused
from tests.conftest import require_node
from tests.nodes import Node
from tests.senders import make_room

Connect = Callable[..., Any]
UserId = Callable[[str], str]


@pytest.fixture(scope="module")
async def pair(stores: EmbeddedServers) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes of one cluster."""
    nodes = (
        Node(stores.mongodb_url, stores.redis_url, "test_typing"),
        Node(stores.mongodb_url, stores.redis_url, "test_typing"),
    )
    await asyncio.gather(*(node.start() for node in nodes))
    yield nodes
    for node in nodes:
        await node.stop()


def seen(client: Client) -> list[str]:
    """The typing events that a device was sent, in order."""
    return [f"{name[7:]} {payload['userId']}" for name, payload in client.received.all if name.startswith("typing:")]


async def test_typing_reaches_the_others_and_ends_by_itself(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """Renewals within 2 s are swallowed; 6 s after the last one the server says stop; own devices hear nothing."""
    alice, bob = user_id("alice"), user_id("bob")
    require_node()
    room_id = await make_room(pair[0], alice, [bob])
    phone, laptop, near, far = await asyncio.gather(
        connect(pair[0], alice, kind="javascript"),
        connect(pair[1], alice),
        connect(pair[0], bob),
        connect(pair[1], bob, kind="javascript"),
    )
    await ok(phone, "typing:start", {"roomId": room_id})
    last = time.monotonic()
    await ok(phone, "typing:start", {"roomId": room_id})
    started = {"roomId": room_id, "userId": alice, "expiresInMs": 6000}
    for device in (near, far):
        assert await device.received.next("typing:start") == started
    for device in (near, far):
        assert await device.received.next("typing:stop") == {"roomId": room_id, "userId": alice}
    assert 5.8 < time.monotonic() - last < 7.5
    assert seen(near) == seen(far) == [f"start {alice}", f"stop {alice}"]
    assert seen(phone) == seen(laptop) == []


async def test_typing_ends_at_once(pair: tuple[Node, Node], connect: Connect, user_id: UserId) -> None:
    """By the word of the typist, a message, a disconnect of the last device typing, leaving the room."""
    alice, bob = user_id("alice"), user_id("bob")
    room_id = await make_room(pair[0], bob, [alice])
    watcher = await connect(pair[1], bob)
    room = {"roomId": room_id}
    start, stop = f"start {alice}", f"stop {alice}"
    phone, laptop = await asyncio.gather(connect(pair[0], alice), connect(pair[0], alice))
    await ok(phone, "typing:start", room)
    await ok(laptop, "typing:start", room)
    await ok(phone, "typing:stop", room)
    await ok(phone, "typing:stop", room)
    await ok(laptop, "typing:stop", room)
    await eventually(lambda: seen(watcher) == [start, stop])
    await ok(phone, "typing:start", room)
    await ok(phone, "message:send", {"roomId": room_id, "text": "said"})
    await watcher.received.next("message:received")
    assert seen(watcher) == [start, stop] * 2
    await ok(phone, "typing:start", room)
    await eventually(lambda: seen(watcher)[4:] == [start])
    await phone.close()
    await eventually(lambda: seen(watcher) == [start, stop] * 3, seconds=3)
    await ok(laptop, "typing:start", room)
    await ok(laptop, "room:leave", room)
    await eventually(lambda: seen(watcher) == [start, stop] * 4, seconds=3)


async def test_a_message_from_another_node_ends_typing(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """Who types on one device and sends from another, on another node, has stopped for everybody at once."""
    alice, bob = user_id("alice"), user_id("bob")
    room_id = await make_room(pair[0], bob, [alice])
    phone, laptop, near, far = await asyncio.gather(
        connect(pair[0], alice), connect(pair[1], alice), connect(pair[0], bob), connect(pair[1], bob)
    )
    await ok(phone, "typing:start", {"roomId": room_id})
    await far.received.next("typing:start")
    await ok(laptop, "message:send", {"roomId": room_id, "text": "from the laptop"})
    for device in (near, far):
        assert await device.received.next("typing:stop", 2) == {"roomId": room_id, "userId": alice}


async def test_typing_is_for_members_and_hidden_from_the_blocked(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """A stranger is told what a send would tell; in a direct room that one side has blocked, nobody hears anything."""
    alice, bob = user_id("alice"), user_id("bob")
    a, b, stranger = await asyncio.gather(
        connect(pair[0], alice), connect(pair[1], bob), connect(pair[0], user_id("carol"))
    )
    direct = (await ok(a, "room:create", {"kind": "direct", "memberIds": [bob]}))["room"]["roomId"]
    channel = (await ok(a, "room:create", {"kind": "channel", "title": "Talk"}))["room"]["roomId"]
    for event in ("typing:start", "typing:stop"):
        assert (await refused(stranger, event, {"roomId": direct}))["code"] == "NOT_FOUND"
        assert (await refused(stranger, event, {"roomId": channel}))["code"] == "FORBIDDEN"
        assert (await refused(stranger, event, {"roomId": "A" * 22}))["code"] == "NOT_FOUND"
    await ok(b, "user:block", {"userId": alice})
    for client in (a, b):
        await ok(client, "typing:start", {"roomId": direct})
        await ok(client, "typing:stop", {"roomId": direct})
    await ok(b, "user:unblock", {"userId": alice})
    await ok(b, "typing:start", {"roomId": direct})
    await eventually(lambda: seen(a) == [f"start {bob}"])
    assert seen(b) == []
