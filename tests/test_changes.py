"""Edits, deletes, reactions, pins and threads over the wire (wire contract, section 4)."""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from server.embedded import EmbeddedServers
from tests.clients.user import Client, ok, refused
from tests.nodes import Node
from tests.proxy import Proxy

Connect = Callable[..., Any]
UserId = Callable[[str], str]

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MESSAGE = {
    "messageId", "roomId", "seq", "senderId", "type", "text", "clientId", "replyTo", "attachments", "mentions",
    "metadata", "reactions", "thread", "createdAt", "editedAt", "deletedAt",
}  # fmt: skip
THUMB, HEART = "👍", "❤️"
UNKNOWN = "A" * 22


class Room:
    """A room with its people's devices: alice, who owns it, and bob."""

    def __init__(self, room_id: str, alice: Client, bob: Client) -> None:
        self.id = room_id
        self.alice = alice
        self.bob = bob

    async def send(self, client: Client, text: str = "hello", **fields: Any) -> int:
        """A new message's seq."""
        sent = await ok(client, "message:send", {"roomId": self.id, "text": text, **fields})
        return int(sent["seq"])

    def at(self, seq: int, **fields: Any) -> dict[str, Any]:
        """A payload about one message."""
        return {"roomId": self.id, "seq": seq, **fields}

    async def message(self, client: Client, seq: int) -> dict[str, Any]:
        """A message as history shows it."""
        page = await ok(client, "message:history", {"roomId": self.id, "around": seq, "limit": 1})
        (message,) = page["messages"]
        return dict(message)


@pytest.fixture
async def room(server: Node, connect: Connect, user_id: UserId) -> Room:
    """A group of two, each on one device."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    created = await ok(alice, "room:create", {"kind": "group", "memberIds": [bob.user_id]})
    return Room(created["room"]["roomId"], alice, bob)


def without_own(message: dict[str, Any]) -> dict[str, Any]:
    """A message of an ack, as events have it."""
    return {name: value for name, value in message.items() if name != "myReactions"}


# --- edits -------------------------------------------------------------------------------------------------------


async def test_an_edit_reaches_every_device(server: Node, connect: Connect, user_id: UserId, client_kind: str) -> None:
    """The sender's own text changes, with the whole message to all, the acting device too; place and time stay."""
    alice, bob = user_id("alice"), user_id("bob")
    phone, laptop, bobs = await asyncio.gather(
        connect(server, alice, kind=client_kind), connect(server, alice), connect(server, bob, kind=client_kind)
    )
    room_id = (await ok(phone, "room:create", {"kind": "group", "memberIds": [bob]}))["room"]["roomId"]
    sent = await ok(phone, "message:send", {"roomId": room_id, "text": "helo", "mentions": [bob], "metadata": {"a": 1}})
    await ok(bobs, "message:react", {"roomId": room_id, "seq": 1, "emoji": THUMB})
    await ok(bobs, "message:send", {"roomId": room_id, "text": "hi", "replyTo": 1})
    edited = (await ok(phone, "message:edit", {"roomId": room_id, "seq": 1, "text": "hello"}))["message"]
    assert set(edited) == MESSAGE | {"myReactions"}
    assert TIME.fullmatch(edited["editedAt"])
    changed = {"text", "editedAt", "reactions", "thread"}
    assert {name: edited[name] for name in edited.keys() - changed} == {
        name: sent["message"][name] for name in edited.keys() - changed
    }
    assert (edited["text"], edited["reactions"], edited["thread"]["count"]) == ("hello", {THUMB: 1}, 1)
    for client in (phone, laptop, bobs):
        assert await client.received.next("message:edited") == without_own(edited)
    assert without_own((await ok(bobs, "message:history", {"roomId": room_id}))["messages"][0]) == without_own(edited)


async def test_the_same_text_is_no_edit(room: Room) -> None:
    """An edit sent again, or one that changes nothing, answers with the message and tells nobody."""
    seq = await room.send(room.alice)
    untouched = (await ok(room.alice, "message:edit", room.at(seq, text="hello")))["message"]
    assert untouched["editedAt"] is None
    first = await ok(room.alice, "message:edit", room.at(seq, text="other"))
    assert await ok(room.alice, "message:edit", room.at(seq, text="other")) == first
    await ok(room.bob, "room:get", {"roomId": room.id})
    assert len(room.bob.received.of("message:edited")) == 1


async def test_edits_at_once_end_alike_for_all(room: Room) -> None:
    """Whatever came last by the order of events on each device is what is stored, by the latest time."""
    seq = await room.send(room.alice)
    texts = [f"text {number}" for number in range(20)]
    await asyncio.gather(*(ok(room.alice, "message:edit", room.at(seq, text=text)) for text in texts))
    stored = await room.message(room.bob, seq)
    for client in (room.alice, room.bob):
        told = await client.received.until("message:edited", len(texts))
        assert told[-1]["text"] == stored["text"]
        times = [datetime.fromisoformat(message["editedAt"]) for message in told]
        assert times == sorted(times)


# --- deletes -----------------------------------------------------------------------------------------------------


async def test_a_deleted_message_keeps_its_place(room: Room) -> None:
    """Text, mentions, metadata and reactions go; twice succeeds and is told once; unread counts drop it."""
    seq = await room.send(room.alice, mentions=[room.bob.user_id], metadata={"a": 1}, clientId="one")
    await ok(room.bob, "message:react", room.at(seq, emoji=THUMB))
    await ok(room.alice, "message:edit", room.at(seq, text="better"))
    assert (await ok(room.bob, "room:get", {"roomId": room.id}))["room"]["unread"] == 1
    for _ in range(2):
        assert await ok(room.alice, "message:delete", room.at(seq)) == {"success": True}
    for client in (room.alice, room.bob):
        told = await client.received.next("message:deleted")
        assert set(told) == {"roomId", "messageId", "seq", "by", "deletedAt"}
        assert (told["roomId"], told["messageId"], told["seq"]) == (room.id, f"{room.id}.{seq}", seq)
        assert told["by"] == room.alice.user_id
        assert TIME.fullmatch(told["deletedAt"])
    message = await room.message(room.bob, seq)
    assert set(message) == MESSAGE | {"myReactions"}
    gone = (message["text"], message["mentions"], message["metadata"], message["reactions"], message["attachments"])
    assert gone == (None, [], {}, {}, [])
    assert (message["deletedAt"], message["editedAt"], message["myReactions"]) == (told["deletedAt"], None, [])
    state = (await ok(room.bob, "room:get", {"roomId": room.id}))["room"]
    assert (state["unread"], state["mentions"], state["lastSeq"], state["lastMessage"]["text"]) == (0, 0, 1, None)
    assert len(room.bob.received.of("message:deleted")) == 1
    told = await room.bob.received.next("unread:updated")
    assert (told["roomId"], told["unread"], told["mentions"], told["totalUnread"]) == (room.id, 0, 0, 0)
    assert room.alice.received.of("unread:updated") == []


async def test_a_deleted_message_sent_again_is_known(room: Room) -> None:
    """The same clientId answers with what is left of the message, another payload still conflicts, no seq is taken."""
    payload = {"roomId": room.id, "text": "hello", "clientId": "again"}
    sent = await ok(room.alice, "message:send", payload)
    await ok(room.bob, "message:react", room.at(1, emoji=THUMB))
    again = await ok(room.alice, "message:send", payload)
    assert (again["duplicate"], again["message"]["reactions"], again["message"]["myReactions"]) == (
        True,
        {THUMB: 1},
        [],
    )
    await ok(room.alice, "message:delete", room.at(1))
    again = await ok(room.alice, "message:send", payload)
    assert (again["duplicate"], again["message"]["text"], again["createdAt"]) == (True, None, sent["createdAt"])
    assert (await refused(room.alice, "message:send", {**payload, "text": "other"}))["code"] == "CONFLICT"
    assert await room.send(room.alice) == 2


async def test_nothing_is_done_to_a_deleted_message(room: Room) -> None:
    """Edits, reactions and pins of it are NOT_FOUND, and so is a seq that the room lacks; taking a pin off is fine."""
    seq = await room.send(room.alice)
    await ok(room.alice, "message:delete", room.at(seq))
    for event, fields in (
        ("message:edit", {"text": "x"}),
        ("message:react", {"emoji": THUMB}),
        ("message:react", {"emoji": THUMB, "remove": True}),
        ("message:pin", {"pinned": True}),
    ):
        for place in (seq, seq + 1, 2**53 - 1):
            error = await refused(room.alice, event, room.at(place, **fields))
            assert (error["code"], error["retryable"]) == ("NOT_FOUND", False), event
    for event in ("message:delete", "message:thread"):
        assert (await refused(room.alice, event, room.at(seq + 1)))["code"] == "NOT_FOUND"
    assert await ok(room.alice, "message:pin", room.at(seq, pinned=False)) == {"success": True, "pins": []}


async def test_a_delete_against_an_edit(room: Room) -> None:
    """Whichever comes first, in the end the message is deleted, and no device hears of an edit after the delete."""
    for _ in range(5):
        seq = await room.send(room.alice)
        await asyncio.gather(
            *(room.alice.call("message:edit", room.at(seq, text=f"text {n}")) for n in range(5)),
            ok(room.alice, "message:delete", room.at(seq)),
            *(room.bob.call("message:react", room.at(seq, emoji=emoji)) for emoji in (THUMB, HEART, THUMB)),
        )
        message = await room.message(room.bob, seq)
        assert (message["text"], message["reactions"]) == (None, {})
        told = [
            name for name, event in room.bob.received.all
            if name in ("message:edited", "message:reaction", "message:deleted") and event["seq"] == seq
        ]  # fmt: skip
        assert told.count("message:deleted") == 1
        assert told[-1] == "message:deleted"


# --- who may -----------------------------------------------------------------------------------------------------


async def test_who_may_change_what(room: Room, server: Node, connect: Connect, user_id: UserId) -> None:
    """Edits are for the sender, deletes for the sender and admins, pins for admins; strangers are told nothing."""
    eve = await connect(server, user_id("eve"))
    alices, bobs = await room.send(room.alice), await room.send(room.bob)
    for client, event, payload, code in (
        (room.bob, "message:edit", room.at(alices, text="x"), "FORBIDDEN"),
        (room.alice, "message:edit", room.at(bobs, text="x"), "FORBIDDEN"),
        (room.bob, "message:delete", room.at(alices), "FORBIDDEN"),
        (room.bob, "message:pin", room.at(bobs, pinned=True), "FORBIDDEN"),
        (room.bob, "message:pin", room.at(bobs, pinned=False), "FORBIDDEN"),
        (eve, "message:edit", room.at(alices, text="x"), "NOT_FOUND"),
        (eve, "message:delete", room.at(alices), "NOT_FOUND"),
        (eve, "message:react", room.at(alices, emoji=THUMB), "NOT_FOUND"),
        (eve, "message:pin", room.at(alices, pinned=True), "NOT_FOUND"),
        (eve, "message:thread", room.at(alices), "NOT_FOUND"),
        (eve, "message:thread", {"roomId": UNKNOWN, "seq": 1}, "NOT_FOUND"),
    ):
        assert (await refused(client, event, payload))["code"] == code, (event, client.user_id)
    await ok(room.alice, "message:delete", room.at(bobs))
    told = await room.bob.received.next("message:deleted")
    assert (told["seq"], told["by"]) == (bobs, room.alice.user_id)
    assert (await room.message(room.bob, alices))["text"] == "hello"


async def test_in_a_direct_room_nobody_is_admin(server: Node, connect: Connect, user_id: UserId) -> None:
    """Each changes their own there, nobody pins, and who is blocked neither edits nor reacts."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    room_id = (await ok(alice, "room:create", {"kind": "direct", "memberIds": [bob.user_id]}))["room"]["roomId"]
    await ok(alice, "message:send", {"roomId": room_id, "text": "hello"})
    here = {"roomId": room_id, "seq": 1}
    await ok(bob, "message:react", {**here, "emoji": THUMB})
    assert (await refused(bob, "message:delete", here))["code"] == "FORBIDDEN"
    assert (await refused(alice, "message:pin", {**here, "pinned": True}))["code"] == "FORBIDDEN"
    await ok(bob, "user:block", {"userId": alice.user_id})
    assert (await refused(alice, "message:edit", {**here, "text": "x"}))["code"] == "FORBIDDEN"
    assert (await refused(alice, "message:react", {**here, "emoji": THUMB}))["code"] == "FORBIDDEN"
    await ok(alice, "message:delete", here)


# --- reactions ---------------------------------------------------------------------------------------------------


async def test_reactions_count_users(room: Room) -> None:
    """A user counts once an emoji; acks have one's own; all are told of what made a difference, with the counts."""
    seq = await room.send(room.alice)
    for _ in range(2):
        answer = await ok(room.bob, "message:react", room.at(seq, emoji=THUMB))
        assert answer == {"success": True, "reactions": {THUMB: 1}, "myReactions": [THUMB]}
    await ok(room.alice, "message:react", room.at(seq, emoji=HEART))
    answer = await ok(room.alice, "message:react", room.at(seq, emoji=THUMB))
    assert answer == {"success": True, "reactions": {THUMB: 2, HEART: 1}, "myReactions": [THUMB, HEART]}
    for _ in range(2):
        answer = await ok(room.bob, "message:react", room.at(seq, emoji=THUMB, remove=True))
        assert answer == {"success": True, "reactions": {THUMB: 1, HEART: 1}, "myReactions": []}
    for client in (room.alice, room.bob):
        told = await client.received.until("message:reaction", 4)
        assert [(event["userId"], event["emoji"], event["removed"]) for event in told] == [
            (room.bob.user_id, THUMB, False),
            (room.alice.user_id, HEART, False),
            (room.alice.user_id, THUMB, False),
            (room.bob.user_id, THUMB, True),
        ]
        assert told[-1]["reactions"] == {THUMB: 1, HEART: 1}
        assert told[-1].keys() >= {"roomId", "seq", "messageId", "userId", "emoji", "removed", "reactions"}
        assert len(told) == 4
    mine = await room.message(room.alice, seq)
    assert (mine["reactions"], mine["myReactions"]) == ({THUMB: 1, HEART: 1}, [THUMB, HEART])
    assert (await room.message(room.bob, seq))["myReactions"] == []


async def test_reactions_at_once_are_exact(
    server: Node, start_node: Callable[..., Any], connect: Connect, user_id: UserId, database: str
) -> None:
    """Fifty users on two nodes at the same instant, and one user fifty times, are fifty and one."""
    nodes = await asyncio.gather(start_node(), start_node())
    people = await asyncio.gather(*(connect(nodes[n % 2], user_id(f"user{n}")) for n in range(50)))
    owner = people[0]
    created = await ok(owner, "room:create", {"kind": "group", "memberIds": [p.user_id for p in people[1:]]})
    here = {"roomId": created["room"]["roomId"], "seq": 1}
    await ok(owner, "message:send", {"roomId": here["roomId"], "text": "vote"})
    await asyncio.gather(
        *(ok(person, "message:react", {**here, "emoji": THUMB}) for person in people),
        *(ok(owner, "message:react", {**here, "emoji": HEART}) for _ in range(50)),
    )
    page = await ok(people[1], "message:history", {"roomId": here["roomId"]})
    assert page["messages"][0]["reactions"] == {THUMB: 50, HEART: 1}
    assert page["messages"][0]["myReactions"] == [THUMB]
    for person in people[:4]:
        told = await person.received.until("message:reaction", 51)
        assert max(told, key=lambda event: (event["at"], sum(event["reactions"].values())))["reactions"] == {
            THUMB: 50,
            HEART: 1,
        }
        assert len(told) == 51


async def test_a_message_has_so_many_emoji(room: Room) -> None:
    """The fifty-first kind is a conflict; a kind that is there still counts."""
    seq = await room.send(room.alice)
    emoji = [chr(code) for code in range(0x1F600, 0x1F600 + 51)]
    await asyncio.gather(*(ok(room.bob, "message:react", room.at(seq, emoji=one)) for one in emoji[:50]))
    assert (await refused(room.bob, "message:react", room.at(seq, emoji=emoji[50])))["code"] == "CONFLICT"
    assert (await ok(room.alice, "message:react", room.at(seq, emoji=emoji[0])))["reactions"][emoji[0]] == 2


# --- pins --------------------------------------------------------------------------------------------------------


async def test_pins(room: Room) -> None:
    """An admin pins and unpins, all are told of both and of the room; a deleted message is unpinned."""
    first, second = await room.send(room.alice), await room.send(room.bob)
    assert (await ok(room.alice, "message:pin", room.at(second, pinned=True)))["pins"] == [second]
    for _ in range(2):
        assert (await ok(room.alice, "message:pin", room.at(first, pinned=True)))["pins"] == [second, first]
    assert (await ok(room.bob, "room:get", {"roomId": room.id}))["room"]["pins"] == [second, first]
    for client in (room.alice, room.bob):
        told = await client.received.until("message:pinned", 2)
        assert told[0] == {"roomId": room.id, "seq": second, "pinned": True, "by": room.alice.user_id}
        updated = await client.received.until("room:updated", 2)
        assert updated[-1]["pins"] == [second, first]
        assert updated[-1]["memberCount"] == 2
    await ok(room.bob, "message:delete", room.at(second))
    told = await room.alice.received.until("message:pinned", 3)
    assert told[2] == {"roomId": room.id, "seq": second, "pinned": False, "by": room.bob.user_id}
    assert (await room.alice.received.until("room:updated", 3))[2]["pins"] == [first]
    assert await ok(room.alice, "message:pin", room.at(first, pinned=False)) == {"success": True, "pins": []}
    assert (await ok(room.bob, "room:get", {"roomId": room.id}))["room"]["pins"] == []


async def test_a_room_has_so_many_pins(room: Room) -> None:
    """The hundred-and-first pin is a conflict, and at the same instant exactly one hundred succeed."""
    seqs = [await room.send(room.alice, str(n)) for n in range(102)]
    acks = await asyncio.gather(*(room.alice.call("message:pin", room.at(seq, pinned=True)) for seq in seqs))
    assert [ack["success"] for ack in acks].count(True) == 100
    assert {ack["error"]["code"] for ack in acks if not ack["success"]} == {"CONFLICT"}
    assert len((await ok(room.alice, "room:get", {"roomId": room.id}))["room"]["pins"]) == 100


# --- threads -----------------------------------------------------------------------------------------------------


async def test_a_thread_is_read_page_by_page(room: Room) -> None:
    """Root and replies with their summary, exact after deletes; replies page ascending beyond `after`."""
    root = await room.send(room.alice, "root")
    replies = [await room.send(room.bob, f"reply {n}", replyTo=root) for n in range(5)]
    await room.send(room.bob, "beside")
    page = await ok(room.alice, "message:thread", room.at(root, limit=2))
    assert set(page) == {"success", "root", "messages", "hasMore"}
    assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == (replies[:2], True)
    assert page["root"]["seq"] == root
    assert (page["root"]["thread"]["count"], page["root"]["thread"]["lastSeq"]) == (5, replies[-1])
    page = await ok(room.alice, "message:thread", room.at(root, limit=3, after=replies[1]))
    assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == (replies[2:], False)
    last = page["messages"][-1]
    assert page["root"]["thread"]["lastAt"] == last["createdAt"]
    assert (last["replyTo"], last["thread"], last["myReactions"]) == (root, None, [])

    await ok(room.bob, "message:delete", room.at(replies[-1]))
    page = await ok(room.alice, "message:thread", room.at(root))
    assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == (replies[:-1], False)
    assert (page["root"]["thread"]["count"], page["root"]["thread"]["lastSeq"]) == (4, replies[-2])
    assert (await room.message(room.alice, root))["thread"] == page["root"]["thread"]
    assert (await room.message(room.alice, replies[-1]))["replyTo"] == root
    await ok(room.alice, "message:delete", room.at(root))
    page = await ok(room.alice, "message:thread", room.at(root))
    assert (page["root"]["text"], len(page["messages"]), page["root"]["thread"]["count"]) == (None, 4, 4)


# --- order and nodes ---------------------------------------------------------------------------------------------


async def test_a_change_comes_behind_its_message(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId
) -> None:
    """On every node a message's change comes after the message, though it was changed by another node at once."""
    first, second = await asyncio.gather(start_node(), start_node())
    alice, laptop, bob = await asyncio.gather(
        connect(first, user_id("alice")), connect(second, user_id("alice")), connect(second, user_id("bob"))
    )
    created = await ok(alice, "room:create", {"kind": "group", "memberIds": [bob.user_id]})
    room_id = created["room"]["roomId"]
    await bob.received.next("room:added")
    for number in range(1, 21):
        await ok(alice, "message:send", {"roomId": room_id, "text": "hello"})
        await ok(laptop, "message:edit", {"roomId": room_id, "seq": number, "text": "other"})
        await ok(laptop, "message:delete", {"roomId": room_id, "seq": number})
    for client in (alice, laptop, bob):
        await client.received.until("message:deleted", 20)
        told = [(name, event["seq"]) for name, event in client.received.all if name.startswith("message:")]
        names = ["message:received"] * (client is not alice) + ["message:edited", "message:deleted"]
        for number in range(1, 21):
            assert [name for name, seq in told if seq == number] == names


async def test_changes_are_told_though_the_bus_is_away(
    start_node: Callable[..., Any], stores: EmbeddedServers, connect: Connect, user_id: UserId
) -> None:
    """While a node is cut off from Redis, edits and deletes by another node reach its devices by way of the store."""
    proxy = Proxy(stores.redis_url)
    await proxy.start()
    here, there = await asyncio.gather(start_node(), start_node(redis_url=proxy.url))
    alice, bob = await asyncio.gather(connect(here, user_id("alice")), connect(there, user_id("bob")))
    created = await ok(alice, "room:create", {"kind": "group", "memberIds": [bob.user_id]})
    room_id = created["room"]["roomId"]
    for _ in range(3):
        await ok(alice, "message:send", {"roomId": room_id, "text": "hello"})
    await bob.received.until("message:received", 3)
    await proxy.refuse()
    await ok(alice, "message:edit", {"roomId": room_id, "seq": 1, "text": "other"})
    await ok(alice, "message:delete", {"roomId": room_id, "seq": 2})
    await ok(alice, "message:react", {"roomId": room_id, "seq": 3, "emoji": THUMB})
    edited = await bob.received.until("message:edited", 2)
    assert [(message["seq"], message["text"], message["reactions"]) for message in edited] == [
        (1, "other", {}),
        (3, "hello", {THUMB: 1}),
    ]
    (deleted,) = await bob.received.until("message:deleted", 1)
    assert (deleted["seq"], deleted["by"]) == (2, alice.user_id)
    await proxy.accept()
    await ok(alice, "message:delete", {"roomId": room_id, "seq": 3})
    await bob.received.until("message:deleted", 2)
    await proxy.close()
