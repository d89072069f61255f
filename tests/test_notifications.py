"""Mentions and notifications over the wire: who is told of what, and finds it again (wire contract, section 6)."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from server.app import utc_now
from server.embedded import EmbeddedServers
from storage.members import MemberStore
from storage.mongo import Mongo
from storage.notifications import NotificationRecord, NotificationStore
from tests.clients.user import Client, ok, refused
from tests.nodes import Node

Connect = Callable[..., Any]
UserId = Callable[[str], str]
NOTIFICATION = {"id", "type", "title", "body", "data", "createdAt"}
CROWD = 10_000


async def make_group(client: Client, *members: str, **fields: Any) -> dict[str, str]:
    """A new group, as payload for events in it."""
    created = await ok(client, "room:create", {"kind": "group", "memberIds": list(members), **fields})
    return {"roomId": created["room"]["roomId"]}


async def kept_by(client: Client, count: int) -> list[dict[str, Any]]:
    """A user's notifications, once there are so many."""
    found: list[dict[str, Any]] = []

    async def look() -> None:
        while len(found) < count:
            found[:] = (await ok(client, "notification:list"))["notifications"]

    await asyncio.wait_for(look(), 10)
    return found


async def test_a_mention_is_a_notification(server: Node, connect: Connect, user_id: UserId, client_kind: str) -> None:
    """All devices of the mentioned member are told once, the sender's are not, and it counts until it is read."""
    bob, cyd = user_id("bob"), user_id("cyd")
    alice, phone, laptop, cyds = await asyncio.gather(
        connect(server, user_id("alice"), token=server.token(user_id("alice"), name="Alice")),
        connect(server, bob, kind=client_kind), connect(server, bob), connect(server, cyd),
    )  # fmt: skip
    here = await make_group(alice, bob, cyd, title="Team")
    message = {**here, "text": "x" * 150 + "👋" * 150, "mentions": [bob, alice.user_id, user_id("nobody")]}
    sent = await ok(alice, "message:send", {**message, "clientId": "one"})
    told = await phone.received.next("notification")
    assert set(told) == NOTIFICATION
    assert (told["type"], told["title"], told["body"]) == ("mention", "Alice · Team", "x" * 150 + "👋" * 50)
    assert (told["data"], told["createdAt"]) == ({**here, "seq": sent["seq"]}, sent["createdAt"])
    assert await laptop.received.next("notification") == told
    assert await laptop.received.next("unread:updated") == {**here, "unread": 1, "mentions": 1, "totalUnread": 1}
    assert (await ok(alice, "message:send", {**message, "clientId": "one"}))["duplicate"] is True
    await ok(alice, "message:send", {**here, "text": "again", "mentions": [bob, cyd]})
    assert (await cyds.received.next("notification"))["body"] == "again"
    page = await ok(phone, "notification:list")
    assert [(kept["body"], kept["read"]) for kept in page["notifications"]] == [("again", False), (told["body"], False)]
    assert {**page["notifications"][1], "read": None} == {**told, "read": None}
    assert [len(device.received.of("notification")) for device in (alice, phone, laptop, cyds)] == [0, 2, 2, 1]

    late = await connect(server, bob)
    assert late.received.of("session:ready")[0]["unreadNotifications"] == 2
    assert (await ok(phone, "notification:read", {"ids": [told["id"]]}))["unreadNotifications"] == 1
    for device in (laptop, late):
        echo = await device.received.next("notification:read")
        assert echo == {"ids": [told["id"]], "unreadNotifications": 1}
    unread = await ok(phone, "notification:list", {"unreadOnly": True})
    assert [kept["body"] for kept in unread["notifications"]] == ["again"]
    assert (await ok(phone, "notification:read", {"all": True}))["unreadNotifications"] == 0
    assert await laptop.received.next("notification:read") == {"all": True, "unreadNotifications": 0}
    assert phone.received.of("notification:read") == []
    assert (await ok(cyds, "notification:list", {"unreadOnly": True}))["notifications"] != []


async def test_whom_a_mention_does_not_reach(server: Node, connect: Connect, user_id: UserId) -> None:
    """A muted room is quiet, but the mention is there and counts; a blocked sender makes none at all."""
    alice, bob, cyd, dan = [await connect(server, user_id(name)) for name in ("alice", "bob", "cyd", "dan")]
    here = await make_group(alice, bob.user_id, cyd.user_id, dan.user_id)
    await ok(bob, "room:mute", {**here, "until": "2099-01-01T00:00:00Z"})
    await ok(cyd, "user:block", {"userId": alice.user_id})
    await ok(alice, "message:send", {**here, "text": "all of you", "mentions": ["@room"]})
    await ok(alice, "message:send", {**here, "text": "you", "mentions": [bob.user_id, cyd.user_id, dan.user_id]})
    await dan.received.until("notification", 2)
    assert [kept["body"] for kept in await kept_by(bob, 2)] == ["you", "all of you"]
    assert (await ok(cyd, "notification:list"))["notifications"] == []
    assert (await ok(alice, "notification:list"))["notifications"] == []
    assert [bob.received.of("notification"), cyd.received.of("notification")] == [[], []]
    assert (await ok(bob, "room:get", here))["room"]["mentions"] == 2


async def test_a_deleted_message_takes_its_notifications_along(server: Node, connect: Connect, user_id: UserId) -> None:
    """Nothing of its text is left with those it mentioned, by name or with the room, read or not."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    here = await make_group(alice, bob.user_id)
    for seq, mention in enumerate((bob.user_id, "@room", bob.user_id), 1):
        await ok(alice, "message:send", {**here, "text": f"oops {seq}", "mentions": [mention]})
    await bob.received.until("notification", 3)
    for seq in (1, 2):
        await ok(alice, "message:delete", {**here, "seq": seq})
    await ok(alice, "message:send", {**here, "text": "last", "mentions": [bob.user_id]})
    await bob.received.until("notification", 4)
    left: list[str] = ["oops 1", "oops 2"]
    while {"oops 1", "oops 2"} & set(left):
        left = [kept["body"] for kept in (await ok(bob, "notification:list"))["notifications"]]
    assert left == ["last", "oops 3"]


async def test_the_room_is_mentioned_by_one_message(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId, stores: EmbeddedServers
) -> None:
    """@room in a room of 10,000: the ack does not wait for it, all but the sender have it, and those here are told."""
    one, two = await asyncio.gather(start_node(), start_node())
    alice, bob, cyd = await asyncio.gather(
        connect(one, user_id("alice")), connect(one, user_id("bob")), connect(two, user_id("cyd"))
    )
    here = await make_group(alice, bob.user_id, cyd.user_id)
    mongo = Mongo(stores.mongodb_url, one.database, client_class=AsyncIOMotorClient)
    members = MemberStore(mongo, utc_now)
    names = [user_id(f"u{number}") for number in range(CROWD - 3)]
    await asyncio.gather(*(members.join(here["roomId"], name) for name in names))
    assert await members.count(here["roomId"]) == CROWD
    await ok(alice, "message:send", {**here, "text": "warm-up"})
    begun = time.monotonic()
    await ok(alice, "message:send", {**here, "text": "everyone", "mentions": ["@room"]})
    acked = time.monotonic() - begun
    for device in (bob, cyd):
        assert (await device.received.next("notification", 20))["body"] == "everyone"
    for _ in range(3):
        await ok(alice, "room:get", here)
    found = 0
    while found < CROWD - 1:
        found = await mongo["notifications"].count_documents({"data.roomId": here["roomId"]})
        assert time.monotonic() - begun < 20
    print(f"@room of {CROWD}: ack {acked * 1000:.0f} ms, all stored {time.monotonic() - begun:.2f} s")
    assert acked < 0.5
    late = await connect(two, names[0])
    assert late.received.of("session:ready")[0]["unreadNotifications"] == 1
    await members.close()
    await mongo.close()


async def test_nothing_is_lost_at_a_shutdown(start_node: Callable[..., Any], connect: Connect, user_id: UserId) -> None:
    """Mentions acknowledged just before the node is told to stop are there after it, every one."""
    node = await start_node()
    alice, bob = await asyncio.gather(connect(node, user_id("alice")), connect(node, user_id("bob")))
    here = await make_group(alice, bob.user_id)
    message = {**here, "text": "you", "mentions": [bob.user_id]}
    await asyncio.gather(*(ok(alice, "message:send", message) for _ in range(200)))
    assert await node.terminate() == 0
    await node.start()
    again = await connect(node, bob.user_id)
    assert again.received.of("session:ready")[0]["unreadNotifications"] == 200


async def test_notifications_come_by_pages(server: Node, connect: Connect, user_id: UserId) -> None:
    """Newest first, each once, however many were made in the same millisecond; foreign cursors are refused."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    here = await make_group(alice, bob.user_id)
    message = {**here, "text": "you", "mentions": [bob.user_id]}
    await asyncio.gather(*(ok(alice, "message:send", message) for _ in range(25)))
    await bob.received.until("notification", 25)
    seqs: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ok(bob, "notification:list", {"limit": 10, **cursor})
        seqs += [kept["data"]["seq"] for kept in page["notifications"]]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert sorted(seqs) == list(range(1, 26))
    assert seqs[0] > seqs[-1]
    error = await refused(bob, "notification:list", {"cursor": "AAAA"})
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "cursor")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({}, "VALIDATION_ERROR"),
        ({"all": False}, "VALIDATION_ERROR"),
        ({"ids": []}, "VALIDATION_ERROR"),
        ({"ids": ["x"], "all": True}, "VALIDATION_ERROR"),
        ({"ids": ["x"] * 501}, "VALIDATION_ERROR"),
        ({"ids": [7]}, "VALIDATION_ERROR"),
        ({"ids": ["x" * 129]}, "VALIDATION_ERROR"),
        ({"ids": ["unknown"]}, "NOT_FOUND"),
    ],
)
async def test_bad_reads_are_refused(
    server: Node, connect: Connect, user_id: UserId, payload: dict[str, Any], code: str
) -> None:
    """Neither, both, too many, malformed: VALIDATION_ERROR; none of the caller's: NOT_FOUND."""
    alice = await connect(server, user_id("alice"))
    assert (await refused(alice, "notification:read", payload))["code"] == code


async def test_nobody_reads_anothers(server: Node, connect: Connect, user_id: UserId) -> None:
    """An id of another user's notification is as good as none, and theirs stays unread."""
    alice, bob, eve = [await connect(server, user_id(name)) for name in ("alice", "bob", "eve")]
    here = await make_group(alice, bob.user_id)
    await ok(alice, "message:send", {**here, "text": "you", "mentions": [bob.user_id]})
    told = await bob.received.next("notification")
    assert (await refused(eve, "notification:read", {"ids": [told["id"]]}))["code"] == "NOT_FOUND"
    assert (await ok(bob, "notification:list"))["notifications"][0]["read"] is False
    assert (await ok(bob, "notification:read", {"ids": [told["id"], "gone"]}))["unreadNotifications"] == 0


async def test_both_drivers_keep_notifications(mongo: Mongo) -> None:
    """Each once a user and id; counts and lists come from an index, and MongoDB drops them after 90 days."""
    store = NotificationStore(mongo)
    moment = datetime(2099, 1, 1, tzinfo=UTC)

    def record(number: int) -> NotificationRecord:
        return NotificationRecord(f"n{number}", "push", "title", "body", {"n": number}, moment)

    entries = [("a", record(1)), ("a", record(2)), ("b", record(1))]
    assert await store.add(entries) == entries
    assert await store.add([("a", record(2)), ("a", record(3)), ("b", record(1))]) == [("a", record(3))]
    assert await store.mark_read("a", ["n1", "n9"]) == 1
    assert await asyncio.gather(*(store.unread_count(user) for user in ("a", "b", "c"))) == [2, 1, 0]
    listed = await store.list("a", None, 2, unread_only=False)
    assert [(kept.id, kept.read) for kept in listed] == [("n3", False), ("n2", False)]
    rest = await store.list("a", (listed[-1].created_at, listed[-1].id), 5, unread_only=False)
    assert [(kept.id, kept.read) for kept in rest] == [("n1", True)]
    await store.remove(["a", "b"], "n2")
    await store.mark_all_read("a")
    assert [await store.unread_count("a"), await store.unread_count("b")] == [0, 1]
    match = [{"$match": {"userId": {"$in": ["a"]}, "read": False}}, {"$group": {"_id": "$userId", "n": {"$sum": 1}}}]
    explained = await mongo.database.command(
        "explain", {"aggregate": "notifications", "pipeline": match, "cursor": {}}, verbosity="queryPlanner"
    )
    assert "unread" in str(explained)
    assert "'COLLSCAN'" not in str(explained)
    indexes = await mongo["notifications"].index_information()
    assert indexes["expiry"]["expireAfterSeconds"] == timedelta(days=90).total_seconds()
    await store.close()
