"""Blocks over the wire, on two nodes: whose direct messages are refused from when on, and who invites whom."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from handlers.blocks import BLOCKS_IN_PAGE
from server.app import utc_now
from storage.blocks import BlockStore
from storage.mongo import Mongo
from tests.clients.user import Client, ok, refused
from tests.nodes import Node, free_port

Connect = Callable[..., Any]
UserId = Callable[[str], str]


async def direct_room(client: Client, peer: str) -> str:
    """The id of the direct room with someone."""
    room_id: str = (await ok(client, "room:create", {"kind": "direct", "memberIds": [peer]}))["room"]["roomId"]
    return room_id


async def test_a_blocked_users_direct_messages_are_refused(
    server: Node, connect: Connect, user_id: UserId, client_kind: str
) -> None:
    """From the ack of a block on, until it is lifted; the blocker still writes, and groups are not concerned."""
    alice, bob = await asyncio.gather(
        connect(server, user_id("alice"), kind=client_kind), connect(server, user_id("bob"), kind=client_kind)
    )
    here = {"roomId": await direct_room(bob, alice.user_id)}
    both = {"roomId": (await ok(bob, "room:create", {"kind": "group", "memberIds": [alice.user_id]}))["room"]["roomId"]}
    said = await ok(bob, "message:send", {**here, "text": "hello", "clientId": "first"})
    for _ in range(2):
        assert await ok(alice, "user:block", {"userId": bob.user_id}) == {"success": True}
    error = await refused(bob, "message:send", {**here, "text": "are you there?"})
    assert (error["code"], error["retryable"]) == ("FORBIDDEN", False)
    assert (await ok(bob, "message:send", {**here, "text": "hello", "clientId": "first"}))["seq"] == said["seq"]
    await ok(bob, "message:send", {**both, "text": "in a group"})
    await ok(alice, "message:send", {**here, "text": "from who blocks"})
    assert (await ok(bob, "message:history", here))["lastSeq"] == 2
    assert (await ok(alice, "user:blocks"))["userIds"] == [bob.user_id]
    assert (await ok(bob, "user:blocks"))["userIds"] == []
    for _ in range(2):
        assert await ok(alice, "user:unblock", {"userId": bob.user_id}) == {"success": True}
    assert (await ok(bob, "message:send", {**here, "text": "thanks"}))["seq"] == 3


async def test_a_block_holds_on_every_node_from_its_ack_on(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId
) -> None:
    """While the other writes without pause on another node, nothing sent after the ack arrives; lifted, all does."""
    one, two = await asyncio.gather(start_node(), start_node())
    alice, bob = await asyncio.gather(connect(one, user_id("alice")), connect(two, user_id("bob")))
    here = {"roomId": await direct_room(bob, alice.user_id)}
    for turn in range(3):
        blocked = asyncio.Event()
        late: list[dict[str, Any]] = []

        async def write(blocked: asyncio.Event = blocked, late: list[dict[str, Any]] = late) -> None:
            while len(late) < 5:
                text = "after" if blocked.is_set() else "before"
                answer = await bob.call("message:send", {**here, "text": text})
                if text == "after":
                    late.append(answer)

        writing = asyncio.create_task(write())
        await alice.received.until("message:received", 20 * (turn + 1))
        await ok(alice, "user:block", {"userId": bob.user_id})
        blocked.set()
        await writing
        assert {answer["error"]["code"] for answer in late} == {"FORBIDDEN"}
        await ok(alice, "user:unblock", {"userId": bob.user_id})
        await ok(bob, "message:send", {**here, "text": "before"})
    assert {message["text"] for message in alice.received.of("message:received")} == {"before"}


async def test_a_block_reaches_who_was_away_for_a_moment(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId
) -> None:
    """A node that remembers a pair, and then has a device of neither, asks again when one of them is back."""
    one, two = await asyncio.gather(start_node(), start_node())
    alice, bob = await asyncio.gather(connect(one, user_id("alice")), connect(two, user_id("bob")))
    here = {"roomId": await direct_room(bob, alice.user_id)}
    await ok(bob, "message:send", {**here, "text": "hello"})
    await bob.close()
    await ok(alice, "user:block", {"userId": bob.user_id})
    again = await connect(two, bob.user_id)
    assert (await refused(again, "message:send", {**here, "text": "hello?"}))["code"] == "FORBIDDEN"


async def test_a_block_holds_without_redis(start_node: Callable[..., Any], connect: Connect, user_id: UserId) -> None:
    """Nodes that cannot tell each other find it out for themselves, within 5 s of the ack."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    one, two = await asyncio.gather(start_node(redis_url=nowhere), start_node(redis_url=nowhere))
    alice, bob = await asyncio.gather(connect(one, user_id("alice")), connect(two, user_id("bob")))
    message = {"roomId": await direct_room(bob, alice.user_id), "text": "hello?"}
    await ok(bob, "message:send", message)
    await ok(alice, "user:block", {"userId": bob.user_id})
    blocked_at = time.monotonic()
    while (answer := await bob.call("message:send", message))["success"]:
        assert time.monotonic() - blocked_at < 5
    assert answer["error"]["code"] == "FORBIDDEN"


async def test_nobody_is_made_to_meet_whom_they_blocked(server: Node, connect: Connect, user_id: UserId) -> None:
    """Who has blocked the caller is silently left out of invitations and new groups; a direct room opens, mute."""
    alice, bob = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("bob")))
    cyd = user_id("cyd")
    await ok(alice, "user:block", {"userId": bob.user_id})
    wanted = {"kind": "group", "memberIds": [alice.user_id, cyd], "clientId": "new-group"}
    room = (await ok(bob, "room:create", wanted))["room"]
    assert room["memberCount"] == 2
    invitation = {"roomId": room["roomId"], "userIds": [alice.user_id, user_id("dan")]}
    assert (await ok(bob, "room:invite", invitation))["added"] == [user_id("dan")]
    here = {"roomId": await direct_room(bob, alice.user_id)}
    assert (await refused(bob, "message:send", {**here, "text": "hello"}))["code"] == "FORBIDDEN"
    await ok(alice, "user:unblock", {"userId": bob.user_id})
    assert (await ok(bob, "room:create", wanted))["room"]["roomId"] == room["roomId"]
    assert (await ok(bob, "room:invite", invitation))["added"] == [alice.user_id]
    assert (await ok(alice, "room:list"))["rooms"][0]["roomId"] == room["roomId"]


async def test_nobody_blocks_themselves(server: Node, connect: Connect, user_id: UserId, client_kind: str) -> None:
    """Self-blocks, malformed ids and cursors are VALIDATION_ERROR, with the field's name."""
    alice = await connect(server, user_id("alice"), kind=client_kind)
    for event, payload, field in (
        ("user:block", {"userId": alice.user_id}, "userId"),
        ("user:unblock", {"userId": alice.user_id}, "userId"),
        ("user:block", {"userId": "no spaces"}, "userId"),
        ("user:block", {}, "userId"),
        ("user:blocks", {"cursor": "AAAA"}, "cursor"),
    ):
        error = await refused(alice, event, payload)
        assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", field), event
    assert (await ok(alice, "user:blocks"))["userIds"] == []


async def test_blocks_are_listed_by_pages(server: Node, connect: Connect, user_id: UserId) -> None:
    """All of one's own, each once, by user id; nobody else's, however alike the ids are."""
    alice, other = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("alice") + ".x"))
    names = sorted(user_id(f"u{number:03}") for number in range(BLOCKS_IN_PAGE + 5))
    await asyncio.gather(*(alice.call("user:block", {"userId": name}) for name in names))
    await ok(other, "user:block", {"userId": user_id("zed")})
    first = await ok(alice, "user:blocks")
    rest = await ok(alice, "user:blocks", {"cursor": first["nextCursor"]})
    assert [*first["userIds"], *rest["userIds"]] == names
    assert (len(first["userIds"]), rest["nextCursor"]) == (BLOCKS_IN_PAGE, None)


async def test_both_drivers_keep_blocks(mongo: Mongo) -> None:
    """Each direction is a block of its own; a question about many pairs at once is answered for each."""
    store = BlockStore(mongo, utc_now)
    await asyncio.gather(*(store.block("a", "b") for _ in range(3)), store.block("c", "b"))
    answers = await asyncio.gather(
        store.blockers_among(["a", "b", "c", "d"], "b"),
        store.blockers_between("b", "a"),
        store.is_blocked_either("b", "c"),
        store.is_blocked_either("a", "c"),
    )
    assert tuple(answers) == (frozenset({"a", "c"}), frozenset({"a"}), True, False)
    await store.block("b", "a")
    assert await store.blockers_between("a", "b") == {"a", "b"}
    await store.unblock("a", "b")
    assert (await store.list("a", "", 10), await store.list("b", "", 10)) == ([], ["a"])
    await store.close()
