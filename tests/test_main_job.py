"""The main job, by both stock clients against a started server: an acknowledged, durable message between people."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.clients.user import ok, refused
from tests.nodes import Node

Connect = Callable[..., Any]


async def test_two_people_with_three_devices_talk(
    server: Node, connect: Connect, user_id: Callable[[str], str], client_kind: str
) -> None:
    """A message reaches every device of both but the one that sent it, in order, and its ack says where it stands."""
    alice, bob = user_id("alice"), user_id("bob")
    phone, laptop, bobs = await asyncio.gather(
        connect(server, alice, kind=client_kind),
        connect(server, alice, kind=client_kind, transports=("polling",)),
        connect(server, bob, kind=client_kind, transports=("polling", "websocket")),
    )
    room = (await ok(phone, "room:create", {"kind": "direct", "memberIds": [bob]}))["room"]
    room_id = room["roomId"]
    assert room["peerId"] == bob
    assert (await laptop.received.next("room:added"))["room"]["roomId"] == room_id

    sent = await ok(phone, "message:send", {"roomId": room_id, "text": "hello", "clientId": "one"})
    assert (sent["seq"], sent["duplicate"], sent["message"]["text"]) == (1, False, "hello")
    assert (await bobs.received.next("message:received"))["messageId"] == sent["messageId"]
    added = (await bobs.received.next("room:added"))["room"]
    assert (added["roomId"], added["peerId"], added["unread"]) == (room_id, alice, 1)

    answer = await ok(bobs, "message:send", {"roomId": room_id, "text": "hi", "replyTo": 1})
    assert answer["seq"] == 2
    assert [m["seq"] for m in await laptop.received.until("message:received", 2)] == [1, 2]
    assert [m["seq"] for m in await phone.received.until("message:received", 1)] == [2]


async def test_history_and_sync_give_what_was_missed(
    server: Node, connect: Connect, user_id: Callable[[str], str], client_kind: str
) -> None:
    """History pages back from the newest; sync pages forward from what a client last saw, room by room."""
    alice = await connect(server, user_id("alice"), kind=client_kind)
    room_id = (await ok(alice, "room:create", {"kind": "group", "title": "Team"}))["room"]["roomId"]
    for number in range(1, 8):
        await ok(alice, "message:send", {"roomId": room_id, "text": f"message {number}"})

    page = await ok(alice, "message:history", {"roomId": room_id, "limit": 3})
    assert ([m["seq"] for m in page["messages"]], page["hasMore"], page["lastSeq"]) == ([5, 6, 7], True, 7)
    page = await ok(alice, "message:history", {"roomId": room_id, "before": 3})
    assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == ([1, 2], False)
    page = await ok(alice, "message:history", {"roomId": room_id, "after": 5})
    assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == ([6, 7], False)
    page = await ok(alice, "message:history", {"roomId": room_id, "around": 4, "limit": 3})
    assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == ([3, 4, 5], True)

    unknown = "A" * 22
    synced = await ok(alice, "message:sync", {"rooms": {room_id: 2, unknown: 0}, "limit": 3})
    missed = synced["rooms"][room_id]
    assert ([m["seq"] for m in missed["messages"]], missed["hasMore"], missed["reset"]) == ([3, 4, 5], True, False)
    assert synced["rooms"][unknown] == {"gone": True}
    again = await ok(alice, "message:sync", {"rooms": {room_id: 99}, "syncToken": synced["syncToken"]})
    assert again["rooms"][room_id]["reset"] is True


async def test_a_message_sent_again_is_the_same_message(
    server: Node, connect: Connect, user_id: Callable[[str], str], client_kind: str
) -> None:
    """The same clientId gives the same place, from any device and after reconnecting; another payload is a conflict."""
    alice = user_id("alice")
    first = await connect(server, alice, kind=client_kind)
    room_id = (await ok(first, "room:create", {"kind": "group"}))["room"]["roomId"]
    message = {"roomId": room_id, "text": "once", "clientId": "retry-me", "metadata": {"b": 1, "a": [2]}}
    sent = await ok(first, "message:send", message)
    await first.close()

    second = await connect(server, alice, kind=client_kind)
    again = await ok(second, "message:send", {**message, "metadata": {"a": [2], "b": 1}})
    assert again["duplicate"] is True
    assert {**again, "duplicate": False} == sent
    error = await refused(second, "message:send", {**message, "text": "twice"})
    assert (error["code"], error["retryable"]) == ("CONFLICT", False)
    page = await ok(second, "message:history", {"roomId": room_id})
    assert [m["text"] for m in page["messages"]] == ["once"]


async def test_the_greeting_says_how_things_stand(
    server: Node, connect: Connect, user_id: Callable[[str], str], client_kind: str
) -> None:
    """`session:ready` has the caller's rooms, newest activity first, with what is unread in them."""
    alice, bob = user_id("alice"), user_id("bob")
    sender = await connect(server, alice, kind=client_kind)
    quiet, busy = [
        (await ok(sender, "room:create", {"kind": "group", "memberIds": [bob]}))["room"]["roomId"] for _ in range(2)
    ]
    await ok(sender, "message:send", {"roomId": quiet, "text": "early"})
    await ok(sender, "message:send", {"roomId": busy, "text": "late"})
    await ok(sender, "message:send", {"roomId": busy, "text": "later", "mentions": [bob, user_id("stranger")]})

    device = await connect(server, bob, kind=client_kind, auth={"deviceId": "phone-1"})
    ready = device.received.of("session:ready")[0]
    assert (ready["protocol"], ready["userId"], ready["deviceId"]) == (1, bob, "phone-1")
    assert [room["roomId"] for room in ready["rooms"]] == [busy, quiet]
    assert [(room["unread"], room["mentions"]) for room in ready["rooms"]] == [(2, 1), (1, 0)]
    assert ready["rooms"][0]["lastMessage"]["text"] == "later"
    assert (ready["totalUnread"], ready["nextCursor"]) == (3, None)
