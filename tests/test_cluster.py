"""Two nodes on one MongoDB and one Redis are one server: one order, one row a message, one membership."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from server.embedded import EmbeddedServers
from tests.clients.user import Client, ok, refused
from tests.nodes import Node
from tests.senders import Reader, Sender, check_log, make_room, stored_log, until

Connect = Callable[..., Any]
UserId = Callable[[str], str]
SENDERS_EACH = 20
MESSAGES_EACH = 25
READERS_EACH = 3
KICKS = 20


@pytest.fixture(scope="module")
async def pair(stores: EmbeddedServers) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes of one cluster, for all tests here; they keep apart by their users."""
    nodes = (
        Node(stores.mongodb_url, stores.redis_url, "test_pair"),
        Node(stores.mongodb_url, stores.redis_url, "test_pair"),
    )
    await asyncio.gather(*(node.start() for node in nodes))
    yield nodes
    for node in nodes:
        await node.stop()


async def test_two_nodes_write_one_room_in_one_order(
    pair: tuple[Node, Node], stores: EmbeddedServers, user_id: UserId
) -> None:
    """Many senders on both nodes: contiguous seqs, nothing twice, and every device sees all of it in order."""
    names = [user_id(f"sender{number}") for number in range(2 * SENDERS_EACH)]
    watchers = [user_id(f"reader{number}") for number in range(2 * READERS_EACH)]
    room_id = await make_room(pair[0], names[0], names[1:] + watchers)
    places = list(zip(watchers, itertools.cycle(pair), strict=False))
    readers = await asyncio.gather(*(Reader().open(node, name) for name, node in places))
    senders = [Sender(name, room_id) for name in names]
    await asyncio.gather(
        *(sender.run(node, MESSAGES_EACH) for sender, node in zip(senders, itertools.cycle(pair), strict=False))
    )
    total = len(senders) * MESSAGES_EACH
    log = await stored_log(stores.mongodb_url, pair[0].database, room_id)
    check_log(log, senders)
    assert (len(log), sum(len(sender.acks) for sender in senders)) == (total, total)
    await until(lambda: all(len(reader.seqs.get(room_id, ())) >= total for reader in readers), "all is delivered")
    for reader in readers:
        assert reader.seqs[room_id] == list(range(1, total + 1))
        reader.close()
    for sender in senders:
        seqs = sender.seqs.get(room_id, [])
        assert seqs == sorted(set(seqs))
        assert not {ack["seq"] for ack in sender.acks.values()} & set(seqs), "a sender was sent its own message"


async def test_one_client_id_sent_a_hundred_times_at_once_is_one_message(
    pair: tuple[Node, Node], stores: EmbeddedServers, user_id: UserId
) -> None:
    """One row; a hundred acks that differ in `duplicate` alone, and one of them says false."""
    alice = user_id("alice")
    room_id = await make_room(pair[0], alice)
    devices = await asyncio.gather(*(Reader().open(node, alice) for node in pair * 5))
    message = {"roomId": room_id, "text": "once", "clientId": "the-one"}
    sends = [
        device.connection.call("message:send", message) for device in devices for _ in range(10) if device.connection
    ]
    acks = await asyncio.gather(*sends)
    assert len(acks) == 100
    assert [ack.pop("duplicate") for ack in acks].count(False) == 1
    assert all(ack == acks[0] for ack in acks)
    log = await stored_log(stores.mongodb_url, pair[0].database, room_id)
    assert [document["seq"] for document in log] == [1]
    for device in devices:
        device.close()


async def test_a_pair_has_one_direct_room_also_when_both_create_it(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """Both sides open the direct room at the same instant, on two nodes, and get the same one; it works at once."""
    for attempt in range(5):
        names = user_id(f"alice{attempt}"), user_id(f"bob{attempt}")
        devices = [await connect(node, name) for node, name in zip(pair, names, strict=True)]
        rooms = await asyncio.gather(
            *(
                ok(device, "room:create", {"kind": "direct", "memberIds": [peer]})
                for device, peer in zip(devices, reversed(names), strict=True)
            )
        )
        assert rooms[0]["room"]["roomId"] == rooms[1]["room"]["roomId"]
        await ok(devices[0], "message:send", {"roomId": rooms[0]["room"]["roomId"], "text": "hello"})
        assert (await devices[1].received.next("message:received"))["seq"] == 1
        assert len((await ok(devices[1], "room:list"))["rooms"]) == 1


async def test_a_new_room_reaches_all_devices_on_every_node(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """Created with members, invited, joined: a message sent right after the ack reaches the newcomer's devices."""
    alice, bob = user_id("alice"), user_id("bob")
    sender = await connect(pair[0], alice)
    devices: list[Client] = [await connect(node, bob) for node in (pair[0], pair[1], pair[1])]

    async def expect_message(room_id: str, text: str) -> None:
        sent = await ok(sender, "message:send", {"roomId": room_id, "text": text})
        for device in devices:
            assert (await device.received.next("message:received"))["messageId"] == sent["messageId"]

    for attempt in range(5):
        created = await ok(sender, "room:create", {"kind": "group", "memberIds": [bob]})
        await expect_message(created["room"]["roomId"], f"created {attempt}")

        invited = (await ok(sender, "room:create", {"kind": "group"}))["room"]["roomId"]
        await ok(sender, "message:send", {"roomId": invited, "text": "before"})
        assert (await ok(sender, "room:invite", {"roomId": invited, "userIds": [bob]}))["added"] == [bob]
        await expect_message(invited, f"invited {attempt}")

        channel = (await ok(sender, "room:create", {"kind": "channel", "title": "open"}))["room"]["roomId"]
        await ok(devices[attempt % 3], "room:join", {"roomId": channel})
        await expect_message(channel, f"joined {attempt}")
    rooms = {room["roomId"] for room in (await ok(devices[2], "room:list"))["rooms"]}
    for device in devices:
        added = await device.received.until("room:added", 15)
        assert {event["room"]["roomId"] for event in added} == rooms


async def test_nothing_sent_after_a_kick_reaches_who_was_kicked(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """While messages flow, someone is kicked again and again: after the ack their devices hear no more of the room."""
    alice, bob, carol = user_id("alice"), user_id("bob"), user_id("carol")
    owner, other = await connect(pair[1], alice), await connect(pair[0], carol)
    room_id = (await ok(owner, "room:create", {"kind": "group", "memberIds": [carol]}))["room"]["roomId"]
    devices: list[Client] = [await connect(node, bob) for node in pair]
    flow = Sender(carol, room_id)
    flowing = asyncio.create_task(flow.run(pair[0]))
    forbidden: set[int] = set()
    for attempt in range(KICKS):
        assert (await ok(owner, "room:invite", {"roomId": room_id, "userIds": [bob]}))["added"] == [bob]
        for device in devices:
            await device.received.until("message:received", len(device.received.of("message:received")) + 1)
        kicker = owner if attempt % 2 else await _admin(owner, other, room_id, carol)
        await ok(kicker, "room:kick", {"roomId": room_id, "userId": bob})
        marked = await asyncio.gather(
            *(ok(client, "message:send", {"roomId": room_id, "text": "after the kick"}) for client in (owner, other))
        )
        forbidden |= {ack["seq"] for ack in marked}
        assert (await refused(devices[0], "message:history", {"roomId": room_id}))["code"] == "NOT_FOUND"
    flow.stop()
    await flowing
    # What was delivered to them stands before this answer on the same connection.
    last = await ok(owner, "message:send", {"roomId": room_id, "text": "last"})
    await other.received.until("message:received", 1)
    for device in devices:
        await ok(device, "room:list")
        heard = [message["seq"] for message in device.received.of("message:received")]
        assert heard == sorted(set(heard))
        assert not forbidden & set(heard)
        assert last["seq"] not in heard


async def _admin(owner: Client, client: Client, room_id: str, name: str) -> Client:
    """Make someone an admin of the room."""
    await ok(owner, "room:role", {"roomId": room_id, "userId": name, "role": "admin"})
    return client


async def test_a_device_that_comes_while_messages_flow_misses_none(
    pair: tuple[Node, Node], connect: Connect, user_id: UserId
) -> None:
    """`lastSeq` of the greeting, what comes live and what sync gives leave no gap, however the two meet."""
    alice, bob = user_id("alice"), user_id("bob")
    room_id = await make_room(pair[0], alice, [bob])
    flow = Sender(alice, room_id)
    flowing = asyncio.create_task(flow.run(pair[0]))
    await until(lambda: len(flow.acks) > 20, "messages flow")
    # By websocket: at this rate a device that polls may be cut as a slow consumer.
    devices: list[Client] = [await connect(node, bob) for node in itertools.islice(itertools.cycle(pair), 10)]
    seen = [device.received.of("session:ready")[0]["rooms"][0]["lastSeq"] for device in devices]
    sent = len(flow.acks)
    await until(lambda: len(flow.acks) > sent + 50, "messages flow on")
    flow.stop()
    await flowing
    total = len(flow.acks)
    for device, last_seq in zip(devices, seen, strict=True):
        while (await device.received.next("message:received"))["seq"] < total:
            pass
        live = [message["seq"] for message in device.received.of("message:received")]
        assert live == list(range(live[0], total + 1))
        assert live[0] <= last_seq + 1
        synced = (await ok(device, "message:sync", {"rooms": {room_id: last_seq}, "limit": 500}))["rooms"][room_id]
        assert synced["lastSeq"] == total
        assert [message["seq"] for message in synced["messages"]][:1] in ([], [last_seq + 1])
