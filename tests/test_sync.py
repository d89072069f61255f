"""Catching up: new messages and changes of those a client has, after days away (wire contract, section 4)."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import AsyncMongoClient

from handlers.sync_tokens import SyncToken, make_sync_token, read_sync_token
from protocol.errors import ValidationFailed
from server.embedded import EmbeddedServers
from storage.change_feed import OVERLAP, Position
from storage.mongo import Collection
from tests.clients.user import Client, ok
from tests.nodes import Node

Connect = Callable[..., Any]
UserId = Callable[[str], str]

THUMB = "👍"
MOMENTS = st.integers(min_value=10**12, max_value=2 * 10**12).map(lambda ms: datetime.fromtimestamp(ms // 1000, UTC))
POSITIONS = st.builds(
    Position, MOMENTS, st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.integers(0, 2**53 - 1)
)


# --- tokens ------------------------------------------------------------------------------------------------------


@given(st.builds(SyncToken, MOMENTS, st.none() | POSITIONS))
def test_a_token_is_read_as_it_was_made(token: SyncToken) -> None:
    """Moments and places in a walk survive the way to the client and back."""
    text = make_sync_token(token)
    assert len(text) <= 512
    assert read_sync_token(text) == token
    assert token.start == (token.position or Position(token.moment - OVERLAP, "", 0))


def test_tokens_of_the_first_version_are_still_read() -> None:
    """A client that was away over an update of the server loses nothing."""
    token = read_sync_token(urlsafe_b64encode(b"1.1767225600000").decode())
    assert token == SyncToken(datetime(2026, 1, 1, tzinfo=UTC))
    assert token.start.changed_at < token.moment


@pytest.mark.parametrize("text", ["1", "1.x", "1.1", "2.1767225600000", "3.1767225600000", "1.1767225600000.1", "1.-1"])
def test_what_is_no_token_is_refused(text: str) -> None:
    """Whatever no server made is a fault of the field."""
    with pytest.raises(ValidationFailed):
        read_sync_token(urlsafe_b64encode(text.encode()).decode())


# --- over the wire -----------------------------------------------------------------------------------------------


@pytest.fixture
async def stored(server: Node, stores: EmbeddedServers) -> AsyncIterator[Collection]:
    """The messages in the node's database."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(stores.mongodb_url, w="majority", tz_aware=True)
    async with client:
        yield client[server.database]["messages"]


async def make_room(client: Client, *members: str) -> str:
    """A new group's id."""
    created = await ok(client, "room:create", {"kind": "group", "memberIds": list(members)})
    return str(created["room"]["roomId"])


async def send(client: Client, room_id: str, count: int, **fields: Any) -> None:
    """Send so many messages."""
    sends = (ok(client, "message:send", {"roomId": room_id, "text": f"text {n}", **fields}) for n in range(count))
    await asyncio.gather(*sends)


async def make_older(stored: Collection, room_id: str, by: timedelta) -> None:
    """Let all changes in a room so far have been made earlier."""
    await stored.update_many(
        {"roomId": room_id, "changedAt": {"$exists": True}},
        [{"$set": {"changedAt": {"$subtract": ["$changedAt", int(by.total_seconds() * 1000)]}}}],
    )


def at(moment: datetime) -> str:
    """The token of a client that knows everything up to this moment."""
    return make_sync_token(SyncToken(moment))


async def test_a_client_that_was_away_learns_of_every_change(
    server: Node, connect: Connect, user_id: UserId, stored: Collection, client_kind: str
) -> None:
    """Edits, deletes and reactions of what it has come with its token, once; new messages come as they are now."""
    alice = await connect(server, user_id("alice"), kind=client_kind)
    bob = await connect(server, user_id("bob"), kind=client_kind)
    room_id, quiet = await make_room(alice, bob.user_id), await make_room(alice, bob.user_id)
    await send(alice, room_id, 6)
    await send(alice, quiet, 1)
    await ok(bob, "message:react", {"roomId": room_id, "seq": 5, "emoji": THUMB})
    token = bob.received.of("session:ready")[0]["syncToken"]
    await bob.close()
    await make_older(stored, room_id, timedelta(days=3))

    await ok(alice, "message:edit", {"roomId": room_id, "seq": 1, "text": "edited"})
    await ok(alice, "message:edit", {"roomId": room_id, "seq": 1, "text": "edited again"})
    await ok(alice, "message:delete", {"roomId": room_id, "seq": 2})
    await ok(alice, "message:react", {"roomId": room_id, "seq": 3, "emoji": THUMB})
    await send(alice, room_id, 2, replyTo=1)
    await ok(alice, "message:edit", {"roomId": room_id, "seq": 7, "text": "edited, too"})

    back = await connect(server, bob.user_id, kind=client_kind)
    cached = {room_id: 6, quiet: 1}
    synced = await ok(back, "message:sync", {"rooms": cached, "syncToken": token})
    room = synced["rooms"][room_id]
    assert [(m["seq"], m["text"]) for m in room["messages"]] == [(7, "edited, too"), (8, "text 1")]
    changed = {m["seq"]: m for m in room["changed"]}
    assert sorted(changed) == [1, 2, 3]
    assert (changed[1]["text"], changed[1]["thread"]["count"]) == ("edited again", 2)
    assert (changed[2]["text"], changed[2]["deletedAt"] is None) == (None, False)
    assert (changed[3]["reactions"], changed[3]["myReactions"]) == ({THUMB: 1}, [])
    assert (room["hasMore"], room["reset"], room["lastSeq"]) == (False, False, 8)
    assert synced["rooms"][quiet] == {"messages": [], "changed": [], "lastSeq": 1, "hasMore": False, "reset": False}

    await make_older(stored, room_id, timedelta(days=1))
    again = await ok(back, "message:sync", {"rooms": {room_id: 8}, "syncToken": synced["syncToken"]})
    assert again["rooms"][room_id]["changed"] == []
    await ok(back, "message:react", {"roomId": room_id, "seq": 8, "emoji": THUMB})
    again = await ok(back, "message:sync", {"rooms": {room_id: 8}, "syncToken": again["syncToken"]})
    assert [(m["seq"], m["myReactions"]) for m in again["rooms"][room_id]["changed"]] == [(8, [THUMB])]


async def test_without_a_token_nothing_has_changed(server: Node, connect: Connect, user_id: UserId) -> None:
    """Without a token new messages come alone; with a seq beyond ours all starts anew; for strangers a room is gone."""
    alice, eve = await asyncio.gather(connect(server, user_id("alice")), connect(server, user_id("eve")))
    room_id = await make_room(alice)
    await send(alice, room_id, 2)
    await ok(alice, "message:edit", {"roomId": room_id, "seq": 1, "text": "edited"})
    assert (await ok(alice, "message:sync", {"rooms": {room_id: 1}}))["rooms"][room_id]["changed"] == []
    long_ago = at(datetime(2020, 1, 1, tzinfo=UTC))
    for seen, seqs in ((0, []), (1, [1]), (2, [1]), (3, [])):
        room = (await ok(alice, "message:sync", {"rooms": {room_id: seen}, "syncToken": long_ago}))["rooms"][room_id]
        assert ([m["seq"] for m in room["changed"]], room["reset"], room["hasMore"]) == (seqs, seen == 3, False)
    synced = await ok(eve, "message:sync", {"rooms": {room_id: 2}, "syncToken": long_ago})
    assert synced["rooms"][room_id] == {"gone": True}


async def test_more_changes_than_fit_come_page_by_page(
    server: Node, connect: Connect, user_id: UserId, stored: Collection
) -> None:
    """Every changed message of every room is told, each reply bounded and saying that there is more; then it ends."""
    alice = await connect(server, user_id("alice"))
    rooms = [await make_room(alice) for _ in range(3)]
    for room_id in rooms:
        await send(alice, room_id, 450)
    began = datetime.now(UTC) - timedelta(days=2)
    # Some at one instant, so that a page ends in the middle of it; the last ones just now.
    for room_id, moment in zip(rooms, (began, began, datetime.now(UTC)), strict=True):
        await stored.update_many({"roomId": room_id}, {"$set": {"changedAt": moment}})
    cached = dict.fromkeys(rooms, 450)
    token, told, replies = at(began), list[tuple[str, int]](), 0
    while True:
        synced = await ok(alice, "message:sync", {"rooms": cached, "syncToken": token})
        token, replies = synced["syncToken"], replies + 1
        told += [(room_id, m["seq"]) for room_id in rooms for m in synced["rooms"][room_id]["changed"]]
        more = {synced["rooms"][room_id]["hasMore"] for room_id in rooms}
        assert len(more) == 1
        if more == {False}:
            break
    assert replies == 3
    assert sorted(told) == sorted((room_id, seq) for room_id in rooms for seq in range(1, 451))
    # The walk is at its end: the next begins a little before this one did.
    again = await ok(alice, "message:sync", {"rooms": cached, "syncToken": token})
    assert [len(again["rooms"][room_id]["changed"]) for room_id in rooms] == [0, 0, 450]
    assert {again["rooms"][room_id]["hasMore"] for room_id in rooms} == {False}


async def test_a_reply_is_bounded_in_bytes(server: Node, connect: Connect, user_id: UserId) -> None:
    """Large messages, new and changed, are spread over several replies; each goes on where the last one stood."""
    alice = await connect(server, user_id("alice"))
    room_id, text = await make_room(alice), "😀" * 10_000
    await asyncio.gather(*(ok(alice, "message:send", {"roomId": room_id, "text": text}) for _ in range(30)))
    for seq in range(1, 16):
        await ok(alice, "message:react", {"roomId": room_id, "seq": seq, "emoji": THUMB})
    token, seen, new, changed = at(datetime(2020, 1, 1, tzinfo=UTC)), 15, list[int](), list[int]()
    for _ in range(10):
        synced = await ok(alice, "message:sync", {"rooms": {room_id: seen}, "syncToken": token})
        room, token = synced["rooms"][room_id], synced["syncToken"]
        new += [m["seq"] for m in room["messages"]]
        changed += [m["seq"] for m in room["changed"]]
        seen = new[-1]
        if not room["hasMore"]:
            break
    assert new == list(range(16, 31))
    assert changed == list(range(1, 16))
