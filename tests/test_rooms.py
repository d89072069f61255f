"""Rooms over the wire: who may make, see, change, enter and end them, and who is told (wire contract, section 3)."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.user import Client, ok, refused
from tests.nodes import Node

Connect = Callable[..., Any]
UserId = Callable[[str], str]

SUMMARY = {
    "roomId", "kind", "title", "peerId", "lastSeq", "readSeq", "unread", "mentions", "mutedUntil", "lastMessage",
    "updatedAt",
}  # fmt: skip
ROOM = SUMMARY | {
    "createdBy", "createdAt", "memberCount", "role", "metadata", "slowModeSeconds", "pins", "firstSeq", "externalId",
}  # fmt: skip
MEMBER = {"userId", "name", "avatar", "role", "joinedAt", "readSeq", "deliveredSeq"}
UPDATED = {"roomId", "title", "metadata", "slowModeSeconds", "pins", "memberCount", "updatedAt"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UNKNOWN = "A" * 22
NOT_FOUND = {"code": "NOT_FOUND", "message": "not found", "retryable": False}


async def make_room(client: Client, kind: str = "group", *members: str, **fields: Any) -> str:
    """A new room's id."""
    created = await ok(client, "room:create", {"kind": kind, "memberIds": list(members), **fields})
    room_id: str = created["room"]["roomId"]
    return room_id


async def settled(*clients: Client) -> None:
    """All that was sent to these devices so far has arrived: it comes before the ack of a later event."""
    await asyncio.gather(*(ok(client, "room:list", {"limit": 1}) for client in clients))


# --- making rooms ------------------------------------------------------------------------------------------------


async def test_a_group_is_made(server: Node, connect: Connect, user_id: UserId, client_kind: str) -> None:
    """The creator owns the room and sees all of it; everybody in it is told on every device, strangers to it too."""
    alice, bob, cyd = user_id("alice"), user_id("bob"), user_id("cyd")
    phone, laptop, bobs = await asyncio.gather(
        connect(server, alice, kind=client_kind), connect(server, alice), connect(server, bob)
    )
    fields = {"title": "Team", "metadata": {"color": "red"}, "externalId": user_id("ours")}
    room = (await ok(phone, "room:create", {"kind": "group", "memberIds": [bob, cyd, alice], **fields}))["room"]

    assert set(room) == ROOM
    assert re.fullmatch(r"[A-Za-z0-9_-]{20,64}", room["roomId"])
    assert {name: room[name] for name in fields} == fields
    assert (room["kind"], room["createdBy"], room["role"], room["memberCount"]) == ("group", alice, "owner", 3)
    assert (room["lastSeq"], room["readSeq"], room["unread"], room["mentions"], room["firstSeq"]) == (0, 0, 0, 0, 1)
    assert (room["peerId"], room["lastMessage"], room["mutedUntil"], room["pins"]) == (None, None, None, [])
    assert room["slowModeSeconds"] == 0
    assert TIME.fullmatch(room["createdAt"])
    assert TIME.fullmatch(room["updatedAt"])
    assert await phone.received.next("room:added") == {"room": room}
    assert await laptop.received.next("room:added") == {"room": room}
    assert await bobs.received.next("room:added") == {"room": {**room, "role": "member"}}
    assert (await ok(phone, "room:get", {"roomId": room["roomId"]}))["room"] == room
    assert (await ok(bobs, "room:get", {"roomId": room["roomId"]}))["room"] == {**room, "role": "member"}
    late = await connect(server, cyd)
    (known,) = late.received.of("session:ready")[0]["rooms"]
    assert set(known) == SUMMARY
    assert known["roomId"] == room["roomId"]


async def test_making_a_room_again_is_the_same_room(server: Node, connect: Connect, user_id: UserId) -> None:
    """The same clientId gives one room, announced once, also at the same instant; other content is a conflict."""
    bob = user_id("bob")
    alice, bobs = await asyncio.gather(connect(server, user_id("alice")), connect(server, bob))
    wanted = {"kind": "group", "memberIds": [bob], "title": "Once", "clientId": "make-1"}
    rooms = [ack["room"] for ack in await asyncio.gather(*(ok(alice, "room:create", wanted) for _ in range(5)))]
    assert {room["roomId"] for room in rooms} == {rooms[0]["roomId"]}
    error = await refused(alice, "room:create", {**wanted, "title": "Twice"})
    assert (error["code"], error["retryable"]) == ("CONFLICT", False)
    assert (await ok(bobs, "room:create", {**wanted, "memberIds": []}))["room"]["roomId"] != rooms[0]["roomId"]
    await settled(alice, bobs)
    assert len(alice.received.of("room:added")) == 1
    assert len((await ok(alice, "room:list"))["rooms"]) == 1


async def test_an_external_id_is_taken_once(server: Node, connect: Connect, user_id: UserId) -> None:
    """A second room with the same externalId is a conflict, whoever asks, and is not made."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    taken = {"kind": "group", "externalId": user_id("order-17")}
    await ok(alice, "room:create", taken)
    for client in (alice, bob):
        assert (await refused(client, "room:create", taken))["code"] == "CONFLICT"
    assert (len((await ok(alice, "room:list"))["rooms"]), (await ok(bob, "room:list"))["rooms"]) == (1, [])


async def test_a_direct_room_is_one_for_both(server: Node, connect: Connect, user_id: UserId) -> None:
    """Opened by both at the same instant, several times, there is one direct room, and each sees the other in it."""
    alice, bob = user_id("alice"), user_id("bob")
    alices, bobs = await asyncio.gather(connect(server, alice), connect(server, bob))
    answers = await asyncio.gather(
        *(ok(alices, "room:create", {"kind": "direct", "memberIds": [bob]}) for _ in range(5)),
        *(ok(bobs, "room:create", {"kind": "direct", "memberIds": [alice]}) for _ in range(5)),
    )
    assert len({answer["room"]["roomId"] for answer in answers}) == 1
    assert {answer["room"]["peerId"] for answer in answers[:5]} == {bob}
    assert {answer["room"]["peerId"] for answer in answers[5:]} == {alice}
    assert {(answer["room"]["memberCount"], answer["room"]["role"]) for answer in answers} == {(2, "member")}
    await settled(alices, bobs)
    assert [len(client.received.of("room:added")) for client in (alices, bobs)] == [1, 1]


async def test_a_direct_room_appears_with_its_first_message(server: Node, connect: Connect, user_id: UserId) -> None:
    """The other side neither lists the room nor hears of it before there is something to read."""
    alice, bob = user_id("alice"), user_id("bob")
    alices, bobs = await asyncio.gather(connect(server, alice), connect(server, bob))
    room_id = await make_room(alices, "direct", bob)
    await settled(bobs)
    assert bobs.received.of("room:added") == []
    assert (await ok(bobs, "room:list"))["rooms"] == []
    await ok(alices, "message:send", {"roomId": room_id, "text": "hello"})
    added = (await bobs.received.next("room:added"))["room"]
    assert set(added) == ROOM
    assert (added["roomId"], added["peerId"], added["unread"]) == (room_id, alice, 1)
    (listed,) = (await ok(bobs, "room:list"))["rooms"]
    assert (listed["roomId"], listed["lastMessage"]["text"]) == (room_id, "hello")
    assert set(listed["lastMessage"]) == {"seq", "senderId", "text", "createdAt"}


async def test_nobody_has_a_direct_room_with_themselves(server: Node, connect: Connect, user_id: UserId) -> None:
    """A direct room needs someone else."""
    alice = user_id("alice")
    error = await refused(await connect(server, alice), "room:create", {"kind": "direct", "memberIds": [alice]})
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "memberIds")


# --- who may see a room --------------------------------------------------------------------------------------------


async def test_a_foreign_room_is_as_good_as_none(server: Node, connect: Connect, user_id: UserId) -> None:
    """For who is no member of a group, every event answers as it does for a room that does not exist."""
    alice, eve = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("eve")))
    foreign = await make_room(alice, "group", user_id("bob"))
    direct = await make_room(alice, "direct", user_id("bob"))
    events: dict[str, dict[str, Any]] = {
        "room:get": {}, "room:update": {"title": "Mine"}, "room:delete": {}, "room:members": {}, "room:join": {},
        "room:leave": {}, "room:invite": {"userIds": [eve.user_id]}, "room:kick": {"userId": user_id("bob")},
        "room:ban": {"userId": user_id("bob")}, "room:unban": {"userId": user_id("bob")},
        "room:role": {"userId": eve.user_id, "role": "owner"}, "room:mute": {"until": None},
        "message:send": {"text": "let me in"}, "message:history": {},
    }  # fmt: skip
    for event, payload in events.items():
        for room_id in (foreign, direct, UNKNOWN, "x"):
            assert await refused(eve, event, {"roomId": room_id, **payload}) == NOT_FOUND, (event, room_id)
    synced = await ok(eve, "message:sync", {"rooms": {foreign: 0, direct: 0, UNKNOWN: 0}})
    assert list(synced["rooms"].values()) == [{"gone": True}] * 3
    assert (await ok(alice, "room:get", {"roomId": foreign}))["room"]["memberCount"] == 2


async def test_a_channel_is_seen_by_all_and_used_by_members(server: Node, connect: Connect, user_id: UserId) -> None:
    """Who has not joined a channel is told so: FORBIDDEN, for it is no secret; having joined they read it all."""
    alice, eve = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("eve")))
    room_id = await make_room(alice, "channel", title=user_id("News"))
    await ok(alice, "message:send", {"roomId": room_id, "text": "first"})
    events: dict[str, dict[str, Any]] = {
        "room:get": {}, "room:update": {"title": "Mine"}, "room:delete": {}, "room:members": {}, "room:leave": {},
        "room:invite": {"userIds": [eve.user_id]}, "room:kick": {"userId": alice.user_id},
        "room:ban": {"userId": alice.user_id}, "room:unban": {"userId": alice.user_id},
        "room:role": {"userId": eve.user_id, "role": "owner"}, "room:mute": {"until": None},
        "message:send": {"text": "hello"}, "message:history": {},
    }  # fmt: skip
    for event, payload in events.items():
        assert (await refused(eve, event, {"roomId": room_id, **payload}))["code"] == "FORBIDDEN", event

    room = (await ok(eve, "room:join", {"roomId": room_id}))["room"]
    assert set(room) == ROOM
    assert (room["role"], room["memberCount"], room["lastSeq"], room["readSeq"], room["unread"]) == (
        "member",
        2,
        1,
        1,
        0,
    )
    assert await eve.received.next("room:added") == {"room": room}
    joined = {"roomId": room_id, "userId": eve.user_id, "role": "member"}
    assert (await alice.received.until("member:joined", 2))[1] == joined
    assert [m["text"] for m in (await ok(eve, "message:history", {"roomId": room_id}))["messages"]] == ["first"]
    await ok(alice, "message:send", {"roomId": room_id, "text": "second"})
    assert (await eve.received.next("message:received"))["seq"] == 2
    assert (await ok(eve, "room:join", {"roomId": room_id}))["room"]["memberCount"] == 2
    await settled(alice)
    assert alice.received.of("member:joined").count(joined) == 1


async def test_channels_are_listed(server: Node, connect: Connect, user_id: UserId) -> None:
    """The directory has channels alone, by title, page by page; a query is literal text in any case."""
    alice, eve = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("eve")))
    tag = user_id("dir")
    titles = [f"{tag} {name}" for name in ("alpha", "Beta", "c.*", "delta", "delta")]
    room_ids = [await make_room(alice, "channel", title=title) for title in titles]
    await make_room(alice, "group", title=f"{tag} secret")
    await ok(eve, "room:join", {"roomId": room_ids[0]})

    listed, cursor = [], None
    while True:
        page = await ok(
            eve, "channel:list", {"query": tag.upper(), "limit": 2, **({"cursor": cursor} if cursor else {})}
        )
        assert set(page) == {"success", "rooms", "nextCursor"}
        listed += page["rooms"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert [channel["title"] for channel in listed] == titles
    assert {channel["roomId"] for channel in listed} == set(room_ids)
    assert listed[0] == {"roomId": room_ids[0], "title": titles[0], "memberCount": 2, "joined": True}
    assert [channel["joined"] for channel in listed[1:]] == [False] * 4
    for query, found in ((f"{tag} c.*", 1), (f"{tag} .*", 0), (f"{tag} delta", 2)):
        assert len((await ok(eve, "channel:list", {"query": query}))["rooms"]) == found


# --- changing and deleting -----------------------------------------------------------------------------------------


async def test_an_update_reaches_every_connection(server: Node, connect: Connect, user_id: UserId) -> None:
    """What is given changes and the rest stays; all members' devices are told, the acting one included."""
    alice, bob = user_id("alice"), user_id("bob")
    phone, laptop, bobs, eve = await asyncio.gather(
        connect(server, alice), connect(server, alice), connect(server, bob), connect(server, user_id("eve"))
    )
    room_id = await make_room(phone, "group", bob, title="Old", metadata={"a": 1})
    room = (await ok(phone, "room:update", {"roomId": room_id, "title": "New", "slowModeSeconds": 60}))["room"]
    assert (room["title"], room["metadata"], room["slowModeSeconds"], room["memberCount"]) == ("New", {"a": 1}, 60, 2)
    told = [await client.received.next("room:updated") for client in (phone, laptop, bobs)]
    assert told == [told[0]] * 3
    assert set(told[0]) == UPDATED
    assert {name: told[0][name] for name in UPDATED - {"updatedAt"}} == {
        name: room[name] for name in UPDATED - {"updatedAt"}
    }
    assert TIME.fullmatch(told[0]["updatedAt"])
    room = (await ok(phone, "room:update", {"roomId": room_id, "metadata": {}}))["room"]
    assert (room["title"], room["metadata"]) == ("New", {})
    assert (await ok(bobs, "room:get", {"roomId": room_id}))["room"] == {**room, "role": "member"}
    await settled(eve)
    assert [name for name, _ in eve.received.all] == ["session:ready"]


async def test_a_deleted_room_is_gone(server: Node, connect: Connect, user_id: UserId) -> None:
    """All are told, and afterwards there is no room, no message and no membership; other rooms stay."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    kept = await make_room(alice, "group", bob.user_id)
    room_id = await make_room(alice, "group", bob.user_id, externalId=user_id("again"))
    await ok(bob, "message:send", {"roomId": room_id, "text": "soon gone"})
    assert (await refused(bob, "room:delete", {"roomId": room_id}))["code"] == "FORBIDDEN"
    assert await ok(alice, "room:delete", {"roomId": room_id}) == {"success": True}
    for client in (alice, bob):
        assert await client.received.next("room:deleted") == {"roomId": room_id, "by": alice.user_id}
        assert await client.received.next("room:removed") == {"roomId": room_id, "reason": "deleted"}
        for event in ("room:get", "room:delete", "room:members", "message:history", "room:join"):
            assert await refused(client, event, {"roomId": room_id}) == NOT_FOUND
        assert await refused(client, "message:send", {"roomId": room_id, "text": "?"}) == NOT_FOUND
        assert (await ok(client, "message:sync", {"rooms": {room_id: 0}}))["rooms"] == {room_id: {"gone": True}}
        assert [room["roomId"] for room in (await ok(client, "room:list"))["rooms"]] == [kept]
    await make_room(alice, "group", externalId=user_id("again"))


# --- lists ---------------------------------------------------------------------------------------------------------


async def pages_of(client: Client, event: str, items: str, payload: dict[str, Any]) -> list[list[Any]]:
    """All pages of a listing."""
    pages: list[list[Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ok(client, event, {**payload, **cursor})
        pages.append(page[items])
        if page["nextCursor"] is None:
            return pages
        cursor = {"cursor": page["nextCursor"]}


async def test_rooms_are_listed_newest_activity_first(server: Node, connect: Connect, user_id: UserId) -> None:
    """Every room is on one page, in order of its last message, and `totalUnread` counts all but muted rooms."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    room_ids = [await make_room(alice, "group", bob.user_id) for _ in range(7)]
    await ok(alice, "message:send", {"roomId": room_ids[2], "text": "newest"})
    pages = await pages_of(bob, "room:list", "rooms", {"limit": 3})
    assert [len(page) for page in pages] == [3, 3, 1]
    assert all(set(room) == SUMMARY for page in pages for room in page)
    listed = [room for page in pages for room in page]
    assert listed[0]["roomId"] == room_ids[2]
    assert sorted(room["roomId"] for room in listed) == sorted(room_ids)
    activity = [room["updatedAt"] for room in listed]
    assert activity == sorted(activity, reverse=True)
    assert [len(page) for page in await pages_of(bob, "room:list", "rooms", {"limit": 7})] == [7]
    assert (await ok(bob, "room:list", {"limit": 1}))["totalUnread"] == 1
    await ok(bob, "room:mute", {"roomId": room_ids[2], "until": "2099-01-01T00:00:00Z"})
    assert (await ok(bob, "room:list"))["totalUnread"] == 0
    assert set(await ok(bob, "room:list")) == {"success", "rooms", "nextCursor", "totalUnread"}


async def test_members_are_listed_longest_standing_first(server: Node, connect: Connect, user_id: UserId) -> None:
    """Every member is on one page, with role and the profile that their token carried."""
    alice = await connect(server, user_id("alice"))
    others = [user_id(f"u{number}") for number in range(6)]
    room_id = await make_room(alice, "group", *others[:3])
    for other in others[3:]:
        await ok(alice, "room:invite", {"roomId": room_id, "userIds": [other]})
    pages = await pages_of(alice, "room:members", "members", {"roomId": room_id, "limit": 3})
    members = [member for page in pages for member in page]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert all(set(member) == MEMBER and TIME.fullmatch(member["joinedAt"]) for member in members)
    assert {member["userId"] for member in members[:4]} == {alice.user_id, *others[:3]}
    assert [member["userId"] for member in members[4:]] == others[3:]
    assert [member["role"] for member in members if member["userId"] == alice.user_id] == ["owner"]
    foreign = (await ok(alice, "room:list", {"limit": 1}))["nextCursor"] or "MQ=="
    error = await refused(alice, "room:members", {"roomId": room_id, "cursor": foreign})
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "cursor")


# --- coming and going ----------------------------------------------------------------------------------------------


async def test_an_invitation_reaches_all_devices(
    server: Node, connect: Connect, user_id: UserId, client_kind: str
) -> None:
    """Invited people are in the room at once, on every connected device: they are told, and then hear its messages."""
    bob = user_id("bob")
    alice, phone, laptop = await asyncio.gather(
        connect(server, user_id("alice")),
        connect(server, bob, kind=client_kind),
        connect(server, bob, transports=("polling",)),
    )
    room_id = await make_room(alice)
    await ok(alice, "message:send", {"roomId": room_id, "text": "before"})
    invitation = {"roomId": room_id, "userIds": [bob, user_id("cyd"), alice.user_id]}
    assert (await ok(alice, "room:invite", invitation))["added"] == [bob, user_id("cyd")]
    assert (await ok(alice, "room:invite", invitation))["added"] == []
    await ok(alice, "message:send", {"roomId": room_id, "text": "after"})
    for device in (phone, laptop):
        room = (await device.received.next("room:added"))["room"]
        assert set(room) == ROOM
        assert (room["role"], room["memberCount"], room["readSeq"], room["unread"]) == ("member", 3, 1, 0)
        assert (await device.received.next("message:received"))["text"] == "after"
    joins = await alice.received.until("member:joined", 3)
    assert {(join["userId"], join["role"]) for join in joins[1:]} == {(bob, "member"), (user_id("cyd"), "member")}
    assert {frozenset(join) for join in joins} == {frozenset({"roomId", "userId", "role"})}
    sent = await ok(phone, "message:send", {"roomId": room_id, "text": "thanks"})
    assert sent["seq"] == 3


@pytest.mark.parametrize(("event", "reason"), [("room:kick", "kicked"), ("room:ban", "banned"), ("room:leave", "left")])
async def test_who_is_out_hears_nothing_more(
    server: Node, connect: Connect, user_id: UserId, event: str, reason: str
) -> None:
    """After the ack no message reaches any of their devices, and the room is no longer there for them."""
    bob = user_id("bob")
    alice, phone, laptop = await asyncio.gather(
        connect(server, user_id("alice")), connect(server, bob), connect(server, bob)
    )
    room_id = await make_room(alice, "group", bob)
    await ok(phone, "message:send", {"roomId": room_id, "text": "hello"})
    by = phone if event == "room:leave" else alice
    assert await ok(by, event, {"roomId": room_id, **({} if by is phone else {"userId": bob})}) == {"success": True}
    for number in range(20):
        await ok(alice, "message:send", {"roomId": room_id, "text": f"secret {number}"})
    await settled(phone, laptop)
    for device in (phone, laptop):
        assert device.received.of("room:removed") == [{"roomId": room_id, "reason": reason}]
        assert [m for m in device.received.of("message:received") if m["text"] != "hello"] == []
        assert device.received.of("member:left") == []
        assert await refused(device, "message:send", {"roomId": room_id, "text": "let me in"}) == NOT_FOUND
        assert await refused(device, "message:history", {"roomId": room_id}) == NOT_FOUND
        assert (await ok(device, "room:list"))["rooms"] == []
    left = {"roomId": room_id, "userId": bob, "by": by.user_id}
    assert await alice.received.next("member:left") == left
    assert (await ok(alice, "room:get", {"roomId": room_id}))["room"]["memberCount"] == 1
    again = (await ok(alice, "room:invite", {"roomId": room_id, "userIds": [bob]}))["added"]
    assert again == ([] if event == "room:ban" else [bob])


async def test_a_kick_cuts_through_a_stream_of_messages(server: Node, connect: Connect, user_id: UserId) -> None:
    """While others write without pause, nothing that is sent after the ack of a kick reaches the kicked user."""
    bob = user_id("bob")
    alice, bobs, *writers = [
        await connect(server, name) for name in (user_id("alice"), bob, user_id("c"), user_id("d"))
    ]
    here = {"roomId": await make_room(alice, "group", bob, *(writer.user_id for writer in writers))}
    kicked = asyncio.Event()

    async def write(writer: Client) -> None:
        late = 0
        while late < 30:
            text = "after" if kicked.is_set() else "before"
            late += kicked.is_set()
            await asyncio.gather(*(ok(writer, "message:send", {**here, "text": text}) for _ in range(5)))

    writing = [asyncio.create_task(write(writer)) for writer in writers]
    await bobs.received.until("message:received", 100)
    await ok(alice, "room:kick", {**here, "userId": bob})
    kicked.set()
    await asyncio.gather(*writing)
    await settled(bobs)
    heard = bobs.received.of("message:received")
    assert {message["text"] for message in heard} == {"before"}
    assert [message["seq"] for message in heard] == list(range(1, len(heard) + 1))
    removed = [name for name, _ in bobs.received.all].index("room:removed")
    assert "message:received" not in [name for name, _ in bobs.received.all[removed:]]


async def test_a_ban_lasts_until_it_is_lifted(server: Node, connect: Connect, user_id: UserId) -> None:
    """A banned user can neither join nor be invited, even one who never was a member; unbanned they can."""
    bob = user_id("bob")
    alice, bobs = await asyncio.gather(connect(server, user_id("alice")), connect(server, bob))
    room_id = await make_room(alice, "channel", title=user_id("Open"))
    here, him = {"roomId": room_id}, {"roomId": room_id, "userId": bob}
    assert (await refused(alice, "room:unban", him))["code"] == "NOT_FOUND"
    for _ in range(2):
        assert await ok(alice, "room:ban", him) == {"success": True}
    await settled(bobs)
    assert bobs.received.of("room:removed") == []
    for event in ("room:join", "message:history", "room:get"):
        assert (await refused(bobs, event, here))["code"] == "FORBIDDEN"
    assert (await ok(alice, "room:invite", {**here, "userIds": [bob]}))["added"] == []
    assert [member["userId"] for member in (await ok(alice, "room:members", here))["members"]] == [alice.user_id]
    assert await ok(alice, "room:unban", him) == {"success": True}
    assert (await ok(bobs, "room:join", here))["room"]["memberCount"] == 2
    assert (await refused(alice, "room:kick", {**here, "userId": user_id("nobody")}))["code"] == "NOT_FOUND"


@pytest.mark.parametrize("event", ["room:kick", "room:ban"])
async def test_nobody_removes_themselves(server: Node, connect: Connect, user_id: UserId, event: str) -> None:
    """Kicking or banning oneself is a VALIDATION_ERROR: there is room:leave."""
    alice = await connect(server, user_id("alice"))
    error = await refused(alice, event, {"roomId": await make_room(alice), "userId": alice.user_id})
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "userId")


async def test_roles_decide(server: Node, connect: Connect, user_id: UserId) -> None:
    """Rows of the permission table through the wire: members, admins and owners, and what a direct room never has."""
    names = {name: user_id(name) for name in ("owner", "admin", "member", "target")}
    owner, admin, member = [await connect(server, names[name]) for name in ("owner", "admin", "member")]
    room_id = await make_room(owner, "group", *list(names.values())[1:])
    here, target = {"roomId": room_id}, {"roomId": room_id, "userId": names["target"]}
    assert await ok(owner, "room:role", {**here, "userId": names["admin"], "role": "admin"}) == {"success": True}
    told = {"roomId": room_id, "userId": names["admin"], "role": "admin", "by": names["owner"]}
    for client in (owner, admin, member):
        assert await client.received.next("member:role") == told
    for client, event, payload in (
        (member, "room:update", {**here, "title": "Mine"}),
        (member, "room:kick", target),
        (member, "room:ban", target),
        (member, "room:unban", target),
        (member, "room:role", {**target, "role": "admin"}),
        (member, "room:delete", here),
        (member, "message:send", {**here, "text": "all", "mentions": ["@room"]}),
        (admin, "room:role", {**target, "role": "admin"}),
        (admin, "room:delete", here),
        (admin, "room:kick", {**here, "userId": names["owner"]}),
        (admin, "room:ban", {**here, "userId": names["owner"]}),
        (owner, "room:role", {**here, "userId": names["owner"], "role": "member"}),
    ):
        assert (await refused(client, event, payload))["code"] == "FORBIDDEN", (client.user_id, event)
    assert (await refused(owner, "room:role", {**here, "userId": user_id("no"), "role": "admin"}))[
        "code"
    ] == "NOT_FOUND"
    assert (await ok(member, "room:invite", {**here, "userIds": [user_id("new")]}))["added"] == [user_id("new")]
    await ok(admin, "room:update", {**here, "title": "Ours"})
    await ok(admin, "message:send", {**here, "text": "all", "mentions": ["@room"]})
    await ok(admin, "room:ban", target)
    await ok(admin, "room:unban", target)
    await ok(admin, "room:kick", {**here, "userId": user_id("new")})

    direct = {"roomId": await make_room(owner, "direct", names["member"])}
    events: dict[str, dict[str, Any]] = {
        "room:leave": {}, "room:invite": {"userIds": [names["admin"]]}, "room:kick": {"userId": names["member"]},
        "room:ban": {"userId": names["member"]}, "room:role": {"userId": names["member"], "role": "admin"},
        "room:delete": {},
    }  # fmt: skip
    for event, payload in events.items():
        assert (await refused(owner, event, {**direct, **payload}))["code"] == "FORBIDDEN", event


async def test_the_last_owner_has_an_heir(server: Node, connect: Connect, user_id: UserId) -> None:
    """When the last owner leaves, the oldest admin, else the oldest member becomes owner, and the room is told."""
    names = [user_id(name) for name in ("ann", "ben", "cat", "dan")]
    ann, ben, cat, dan = [await connect(server, name) for name in names]
    room_id = await make_room(ann)
    here = {"roomId": room_id}
    for name in names[1:]:
        await ok(ann, "room:invite", {**here, "userIds": [name]})
    await ok(ann, "room:role", {**here, "userId": cat.user_id, "role": "admin"})
    await dan.received.next("member:role")
    for leaver, heir, watcher in ((ann, cat, dan), (cat, ben, dan)):
        await ok(leaver, "room:leave", here)
        left = {"roomId": room_id, "userId": leaver.user_id, "by": leaver.user_id}
        assert await watcher.received.next("member:left") == left
        told = await watcher.received.next("member:role")
        assert told == {"roomId": room_id, "userId": heir.user_id, "role": "owner", "by": leaver.user_id}
        assert (await ok(heir, "room:get", here))["room"]["role"] == "owner"
    await ok(ben, "room:role", {**here, "userId": dan.user_id, "role": "owner"})
    await ok(ben, "room:leave", here)
    await ok(dan, "room:leave", here)
    assert await refused(dan, "room:get", here) == NOT_FOUND


async def test_a_mute_is_ones_own(server: Node, connect: Connect, user_id: UserId) -> None:
    """Muting shows in the caller's view alone, until its time or null."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    here = {"roomId": await make_room(alice, "group", bob.user_id)}
    until = "2099-01-31T12:00:00.123Z"
    assert await ok(bob, "room:mute", {**here, "until": until}) == {"success": True, "mutedUntil": until}
    assert [(await ok(client, "room:get", here))["room"]["mutedUntil"] for client in (alice, bob)] == [None, until]
    assert await ok(bob, "room:mute", {**here, "until": None}) == {"success": True, "mutedUntil": None}
    assert (await ok(bob, "room:get", here))["room"]["mutedUntil"] is None


# --- order ---------------------------------------------------------------------------------------------------------


async def test_events_take_effect_in_the_order_sent(server: Node, connect: Connect, user_id: UserId) -> None:
    """Pushed without waiting, 50 sends, an update, 50 sends and a history act as if each had waited for the last."""
    bob = user_id("bob")
    alice, bobs = await asyncio.gather(connect(server, user_id("alice")), connect(server, bob))
    here = {"roomId": await make_room(alice, "group", bob)}

    def sends(start: int) -> list[tuple[str, dict[str, Any]]]:
        return [("message:send", {**here, "text": str(number)}) for number in range(start, start + 50)]

    events = [
        *sends(1), ("message:history", {**here, "limit": 1}), ("room:update", {**here, "title": "Halfway"}),
        *sends(51), ("message:history", {**here, "limit": 100}), ("room:delete", here), ("room:get", here),
    ]  # fmt: skip
    answers = await asyncio.gather(*(alice.call(event, payload) for event, payload in events))
    assert [answer["seq"] for answer in answers if "seq" in answer] == list(range(1, 101))
    assert [m["text"] for m in answers[50]["messages"]] == ["50"]
    assert (answers[51]["room"]["title"], answers[51]["room"]["lastSeq"]) == ("Halfway", 50)
    assert [m["text"] for m in answers[102]["messages"]] == [str(number) for number in range(1, 101)]
    assert (answers[103], answers[104]["error"]["code"]) == ({"success": True}, "NOT_FOUND")
    await bobs.received.next("room:removed")
    assert [m["seq"] for m in bobs.received.of("message:received")] == list(range(1, 101))
    told = [(name, body) for name, body in bobs.received.all if name in ("message:received", "room:updated")]
    assert [name for name, _ in told].index("room:updated") == 50
