"""Receipts by the wire: watermarks that only move forward, told to the room once, and who has read a message."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient

from server.embedded import EmbeddedServers
from tests.clients.user import Client, eventually, ok, refused
from tests.nodes import Node

Connect = Callable[..., Any]
MAX_SAFE = 2**53 - 1


async def make_room(owner: Client, *member_ids: str, messages: int = 0) -> str:
    """A group of these people in which the owner has said so much."""
    room = await ok(owner, "room:create", {"kind": "group", "memberIds": list(member_ids)})
    room_id: str = room["room"]["roomId"]
    for number in range(messages):
        await ok(owner, "message:send", {"roomId": room_id, "text": f"message {number + 1}"})
    return room_id


async def summary(client: Client, room_id: str) -> dict[str, Any]:
    """The room as the client's list shows it."""
    rooms = (await ok(client, "room:list", {"limit": 500}))["rooms"]
    return next(room for room in rooms if room["roomId"] == room_id)


async def test_reading_is_told_to_the_room_and_to_the_readers_devices(
    server: Node, connect: Connect, user_id: Callable[[str], str], client_kind: str
) -> None:
    """A read moves both watermarks, is told to all members, and tells the reader's devices what is left."""
    alice, bob = (
        await connect(server, user_id("alice"), kind=client_kind),
        await connect(server, user_id("bob"), kind=client_kind),
    )
    tablet = await connect(server, bob.user_id)
    room_id = await make_room(alice, bob.user_id, messages=3)
    await bob.received.until("message:received", 3)

    reached = await ok(bob, "message:delivered", {"roomId": room_id, "seq": 3})
    assert reached["deliveredSeq"] == 3
    told = await alice.received.next("message:delivered")
    assert (told["roomId"], told["userId"], told["seq"]) == (room_id, bob.user_id, 3)

    read = await ok(bob, "message:read", {"roomId": room_id, "seq": 2})
    assert (read["readSeq"], read["unread"], read["mentions"]) == (2, 1, 0)
    told = await alice.received.next("message:read")
    assert (told["roomId"], told["userId"], told["seq"]) == (room_id, bob.user_id, 2)
    assert told["at"].endswith("Z")
    left = {"roomId": room_id, "unread": 1, "mentions": 0, "totalUnread": 1}
    assert await tablet.received.next("unread:updated") == left
    assert (await bob.received.until("unread:updated", 1))[-1] == left

    members = (await ok(alice, "room:members", {"roomId": room_id}))["members"]
    marks = {member["userId"]: (member["readSeq"], member["deliveredSeq"]) for member in members}
    assert marks[bob.user_id] == (2, 3)


async def test_watermarks_never_move_back_and_stop_at_the_last_seq(
    server: Node, connect: Connect, user_id: Callable[[str], str]
) -> None:
    """Any order and number of calls ends at the highest, what does not move anything is not told."""
    alice, bob = await connect(server, user_id("alice")), await connect(server, user_id("bob"))
    room_id = await make_room(alice, bob.user_id, messages=20)
    calls = [random.randint(1, 20) for _ in range(30)]
    reached = 0
    for seq in calls:
        reached = max(reached, seq)
        ack = await ok(bob, "message:read", {"roomId": room_id, "seq": seq})
        assert (ack["readSeq"], ack["unread"]) == (reached, 20 - reached)
        assert (await summary(bob, room_id))["readSeq"] == reached
    assert (await ok(bob, "message:read", {"roomId": room_id, "seq": MAX_SAFE}))["readSeq"] == 20
    assert (await ok(bob, "message:delivered", {"roomId": room_id, "seq": 1}))["deliveredSeq"] == 20
    await eventually(lambda: bool(told := alice.received.of("message:read")) and told[-1]["seq"] == 20)
    told = [event["seq"] for event in alice.received.of("message:read")]
    assert told == sorted(set(told))
    assert alice.received.of("message:delivered") == []
    before = len(alice.received.all)
    await ok(bob, "message:read", {"roomId": room_id, "seq": 5})
    await asyncio.gather(*(ok(bob, "message:read", {"roomId": room_id, "seq": 20}) for _ in range(10)))
    await ok(alice, "message:send", {"roomId": room_id, "text": "a fence"})
    await bob.received.until("message:received", 21)
    await ok(bob, "message:delivered", {"roomId": room_id, "seq": 21})
    await alice.received.until("message:delivered", 1)
    assert [name for name, _ in alice.received.all[before:]] == ["message:delivered"]


async def test_a_storm_of_receipts_is_a_few_events(
    server: Node, connect: Connect, user_id: Callable[[str], str]
) -> None:
    """However often a device reports, the room hears of it at most every 200 ms."""
    alice, bob = await connect(server, user_id("alice")), await connect(server, user_id("bob"))
    room_id = await make_room(alice, bob.user_id, messages=100)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(ok(bob, "message:read", {"roomId": room_id, "seq": seq}) for seq in range(1, 101)))
    await eventually(lambda: bool(told := alice.received.of("message:read")) and told[-1]["seq"] == 100)
    assert len(alice.received.of("message:read")) <= (loop.time() - began) / 0.2 + 2
    assert len(bob.received.of("unread:updated")) <= (loop.time() - began) / 0.2 + 3


async def test_receipts_say_who_has_and_who_has_read(
    server: Node, connect: Connect, user_id: Callable[[str], str], client_kind: str
) -> None:
    """The sender aside, page by page; who has read a message has it; who has only joined later has said neither."""
    alice = await connect(server, user_id("alice"), kind=client_kind)
    others = [await connect(server, user_id(f"member{number}")) for number in range(4)]
    room_id = await make_room(alice, *(other.user_id for other in others), messages=2)
    for other in others[:3]:
        await ok(other, "message:delivered", {"roomId": room_id, "seq": 2})
    await ok(others[0], "message:read", {"roomId": room_id, "seq": 2})
    await ok(others[1], "message:read", {"roomId": room_id, "seq": 1})
    await ok(alice, "message:read", {"roomId": room_id, "seq": 2})
    await ok(alice, "room:invite", {"roomId": room_id, "userIds": [user_id("late")]})

    page = await ok(alice, "message:receipts", {"roomId": room_id, "seq": 2})
    assert [entry["userId"] for entry in page["readBy"]] == [others[0].user_id]
    assert {entry["userId"] for entry in page["deliveredTo"]} == {other.user_id for other in others[:3]}
    assert page["nextCursor"] is None
    page = await ok(alice, "message:receipts", {"roomId": room_id, "seq": 1})
    assert {entry["userId"] for entry in page["readBy"]} == {other.user_id for other in others[:2]}

    found, cursor = [], None
    while True:
        page = await ok(
            alice,
            "message:receipts",
            {"roomId": room_id, "seq": 2, "limit": 1, **({"cursor": cursor} if cursor else {})},
        )
        found += [entry["userId"] for entry in page["deliveredTo"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert sorted(found) == sorted(other.user_id for other in others[:3])


async def test_bad_receipts_are_refused(
    server: Node, connect: Connect, user_id: Callable[[str], str], client_kind: str
) -> None:
    """No seq, no such room, no such message, no member: each its code, and nothing is moved."""
    alice, eve = await connect(server, user_id("alice"), kind=client_kind), await connect(server, user_id("eve"))
    room_id = await make_room(alice, messages=1)
    channel = (await ok(alice, "room:create", {"kind": "channel", "title": "All"}))["room"]["roomId"]
    for event in ("message:read", "message:delivered", "message:receipts"):
        for seq in (0, -1, MAX_SAFE + 1, "1", 1.5, None, True):
            assert (await refused(alice, event, {"roomId": room_id, "seq": seq}))["code"] == "VALIDATION_ERROR"
        assert (await refused(alice, event, {"roomId": room_id}))["code"] == "VALIDATION_ERROR"
        assert (await refused(alice, event, {"roomId": "A" * 22, "seq": 1}))["code"] == "NOT_FOUND"
        assert (await refused(eve, event, {"roomId": room_id, "seq": 1}))["code"] == "NOT_FOUND"
        assert (await refused(eve, event, {"roomId": channel, "seq": 1}))["code"] == "FORBIDDEN"
    assert (await refused(alice, "message:receipts", {"roomId": room_id, "seq": 2}))["code"] == "NOT_FOUND"
    bad_cursor = {"roomId": room_id, "seq": 1, "cursor": "bm9uZQ=="}
    assert (await refused(alice, "message:receipts", bad_cursor))["code"] == "VALIDATION_ERROR"
    assert (await ok(alice, "message:read", {"roomId": channel, "seq": 5}))["readSeq"] == 0


async def test_muting_tells_the_devices_what_counts_now(
    server: Node, connect: Connect, user_id: Callable[[str], str]
) -> None:
    """A muted room keeps its own count and leaves the total."""
    alice, bob = await connect(server, user_id("alice")), await connect(server, user_id("bob"))
    room_id = await make_room(alice, bob.user_id, messages=2)
    await ok(bob, "room:mute", {"roomId": room_id, "until": "2999-01-01T00:00:00.000Z"})
    told = await bob.received.next("unread:updated")
    assert told == {"roomId": room_id, "unread": 2, "mentions": 0, "totalUnread": 0}
    await ok(bob, "room:mute", {"roomId": room_id, "until": None})
    assert (await bob.received.next("unread:updated"))["totalUnread"] == 2


async def test_large_rooms_keep_receipts_to_themselves(
    server: Node, connect: Connect, user_id: Callable[[str], str]
) -> None:
    """Beyond 100 members a receipt counts, can be asked for, and is told to nobody but the reader's devices."""
    alice, bob = await connect(server, user_id("alice")), await connect(server, user_id("bob"))
    crowd = [user_id(f"member{number}") for number in range(99)]
    room_id = await make_room(alice, bob.user_id, *crowd, messages=1)
    read = await ok(bob, "message:read", {"roomId": room_id, "seq": 1})
    assert (read["readSeq"], read["unread"]) == (1, 0)
    assert (await bob.received.next("unread:updated"))["totalUnread"] == 0
    page = await ok(alice, "message:receipts", {"roomId": room_id, "seq": 1})
    assert [entry["userId"] for entry in page["readBy"]] == [bob.user_id]
    fence = await make_room(alice, bob.user_id, messages=1)
    await ok(bob, "message:read", {"roomId": fence, "seq": 1})
    told = await alice.received.until("message:read", 1)
    assert [event["roomId"] for event in told] == [fence]


async def test_receipts_survive_an_orderly_end(
    start_node: Callable[..., Any], connect: Connect, user_id: Callable[[str], str], stores: EmbeddedServers
) -> None:
    """What was acknowledged just before SIGTERM is in the store when the process has gone."""
    node = await start_node()
    alice, bob = await connect(node, user_id("alice")), await connect(node, user_id("bob"))
    room_id = await make_room(alice, bob.user_id, messages=30)
    for seq in range(1, 31):
        await ok(bob, "message:read", {"roomId": room_id, "seq": seq})
    assert await node.terminate() == 0
    mongo: Any = AsyncIOMotorClient(stores.mongodb_url)
    member = await mongo[node.database]["members"].find_one({"_id": f"{room_id}:{bob.user_id}"})
    mongo.close()
    assert (member["readSeq"], member["deliveredSeq"]) == (30, 30)


async def test_unread_is_exact_under_sends_reads_and_deletes(
    server: Node, connect: Connect, user_id: Callable[[str], str]
) -> None:
    """At every moment the list says what a naive count of the history says: for two readers, with mentions."""
    clients = [await connect(server, user_id(name)) for name in ("alice", "bob", "carol")]
    ids = [client.user_id for client in clients]
    room_id = await make_room(clients[0], *ids[1:])
    told: list[dict[str, Any]] = []
    read = dict.fromkeys(ids, 0)
    deleted: set[int] = set()
    chance = random.Random(7)
    for step in range(150):
        client = chance.choice(clients)
        act = chance.random()
        if act < 0.55 or not told:
            mentions = chance.choice([[], [], [], [ids[1]], ids[1:], ["@room"] if client is clients[0] else []])
            ack = await ok(client, "message:send", {"roomId": room_id, "text": f"{step}", "mentions": mentions})
            told.append({"seq": ack["seq"], "senderId": client.user_id, "mentions": mentions})
        elif act < 0.8:
            seq = chance.randint(1, len(told))
            ack = await ok(client, "message:read", {"roomId": room_id, "seq": seq})
            read[client.user_id] = max(read[client.user_id], seq)
            assert (ack["unread"], ack["mentions"]) == naive(told, deleted, client.user_id, read[client.user_id])
        else:
            seq = chance.randint(1, len(told))
            if seq not in deleted and told[seq - 1]["senderId"] == client.user_id:
                await ok(client, "message:delete", {"roomId": room_id, "seq": seq})
                deleted.add(seq)
        for reader in clients:
            shown = await summary(reader, room_id)
            expected = naive(told, deleted, reader.user_id, read[reader.user_id])
            assert (shown["unread"], shown["mentions"]) == expected, f"step {step}"
            assert shown["lastSeq"] == len(told)
            assert told == [] or (shown["lastMessage"]["text"] is None) == (len(told) in deleted)
    fresh = await connect(server, ids[2])
    ready = fresh.received.of("session:ready")[0]
    assert ready["rooms"][0]["unread"] == naive(told, deleted, ids[2], read[ids[2]])[0] == ready["totalUnread"]


async def test_what_other_nodes_say_counts_here(
    start_node: Callable[..., Any], connect: Connect, user_id: Callable[[str], str]
) -> None:
    """Messages, mentions, deletes, edits and titles from another node are in the list as soon as they have come."""
    one, two = await start_node(), await start_node()
    alice, bob = await connect(one, user_id("alice")), await connect(two, user_id("bob"))
    room_id = await make_room(alice, bob.user_id, messages=3)
    await bob.received.until("message:received", 3)
    assert (await summary(bob, room_id))["unread"] == 3
    for number, mentions in enumerate([[], [bob.user_id], ["@room"], [alice.user_id]]):
        await ok(alice, "message:send", {"roomId": room_id, "text": f"again {number}", "mentions": mentions})
    await bob.received.until("message:received", 7)
    shown = await summary(bob, room_id)
    assert (shown["unread"], shown["mentions"], shown["lastSeq"]) == (7, 2, 7)
    assert shown["lastMessage"]["text"] == "again 3"

    for deleted in (2, 5):
        await ok(alice, "message:delete", {"roomId": room_id, "seq": deleted})
    await ok(alice, "message:edit", {"roomId": room_id, "seq": 7, "text": "otherwise"})
    await ok(alice, "room:update", {"roomId": room_id, "title": "Renamed"})
    await bob.received.next("room:updated")
    shown = await summary(bob, room_id)
    assert (shown["unread"], shown["mentions"], shown["title"]) == (5, 1, "Renamed")
    assert shown["lastMessage"]["text"] == "otherwise"

    read = await ok(bob, "message:read", {"roomId": room_id, "seq": 4})
    assert (read["unread"], read["mentions"]) == (2, 1)
    assert (await alice.received.next("message:read"))["seq"] == 4
    laptop = await connect(one, bob.user_id)
    ready = laptop.received.of("session:ready")[0]
    assert (ready["rooms"][0]["unread"], ready["rooms"][0]["mentions"], ready["totalUnread"]) == (2, 1, 2)
    # What one device has read counts for the other, on another node, as soon as it hears of it.
    await ok(laptop, "message:read", {"roomId": room_id, "seq": 7})
    await eventually(lambda: bob.received.of("unread:updated")[-1]["unread"] == 0)
    behind = await ok(bob, "message:read", {"roomId": room_id, "seq": 5})
    assert (behind["readSeq"], behind["unread"], behind["mentions"]) == (7, 0, 0)


def naive(messages: list[dict[str, Any]], deleted: set[int], user_id: str, read_seq: int) -> tuple[int, int]:
    """Unread and mentions, counted one by one."""
    unread = [
        message
        for message in messages
        if message["seq"] > read_seq and message["senderId"] != user_id and message["seq"] not in deleted
    ]
    return len(unread), sum(bool({user_id, "@room"} & set(message["mentions"])) for message in unread)
