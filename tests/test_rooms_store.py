"""Rooms and members in the store, above all what happens at the same instant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import NamedTuple

import pytest

from auth.permissions import check_can_ban, check_can_kick, check_can_set_role, successor
from protocol.errors import Conflict, Forbidden, NotFound
from protocol.types import Role, RoomKind
from storage.members import Membership, MemberStore
from storage.mongo import Mongo
from storage.rooms import NewRoom, RoomRecord, RoomStore
from storage.users import Profile, UserStore


def clock() -> datetime:
    """The time, as stores keep it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Node(NamedTuple):
    """The stores of one process."""

    rooms: RoomStore
    members: MemberStore


@pytest.fixture
async def nodes(mongo: Mongo) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes on one database."""
    pair = tuple(Node(RoomStore(mongo, clock), MemberStore(mongo, clock)) for _ in range(2))
    yield pair[0], pair[1]
    for node in pair:
        await node.rooms.close()
        await node.members.close()


@pytest.fixture
def node(nodes: tuple[Node, Node]) -> Node:
    """One process."""
    return nodes[0]


def draft(kind: RoomKind = RoomKind.GROUP, owner: str = "ann", members: tuple[str, ...] = (), **more: str) -> NewRoom:
    """A room to be made."""
    return NewRoom(
        kind=kind,
        created_by=owner,
        member_ids=members,
        title=more.get("title"),
        metadata={},
        external_id=more.get("external_id"),
        client_id=more.get("client_id"),
    )


async def make(node: Node, kind: RoomKind = RoomKind.GROUP, members: tuple[str, ...] = (), **more: str) -> RoomRecord:
    """A new room of ann's."""
    record, is_new = await node.rooms.create(draft(kind, members=members, **more))
    assert is_new
    return record


async def roles(node: Node, room_id: str) -> dict[str, Role]:
    """Who is in a room, and as what."""
    return {membership.user_id: membership.role for membership in await node.members.list(room_id, None, 500)}


def may_kick(actor: Role | None, target: Role | None) -> None:
    """The rule for kicks in a group."""
    check_can_kick(RoomKind.GROUP, actor, target)


def may_ban(actor: Role | None, target: Role | None) -> None:
    """The rule for bans in a group."""
    check_can_ban(RoomKind.GROUP, actor, target)


async def give(node: Node, room_id: str, actor: str, user_id: str, role: Role) -> bool:
    """Have `actor` give someone a role."""
    return await node.members.ownership.set_role(
        room_id, actor, user_id, role, lambda by, of: check_can_set_role(RoomKind.GROUP, by, of, role)
    )


async def test_a_room_comes_with_its_members(node: Node) -> None:
    """The creator is owner, the others are members, and everything reads back as it was written."""
    record = await make(node, members=("bob", "cid"), title="Plans", external_id="crm-7")
    assert await node.rooms.get(record.id) == record
    assert await node.rooms.by_external_id("crm-7") == record
    assert await roles(node, record.id) == {"ann": Role.OWNER, "bob": Role.MEMBER, "cid": Role.MEMBER}
    assert await node.members.count(record.id) == 3
    assert [membership.room_id for membership in await node.members.memberships_of("bob")] == [record.id]


async def test_creating_is_idempotent_by_client_id(nodes: tuple[Node, Node]) -> None:
    """The same client id makes one room however often it is sent at once; with another payload it is a conflict."""
    wanted = draft(client_id="c1", members=("bob",), title="One")
    results = await asyncio.gather(*(nodes[index % 2].rooms.create(wanted) for index in range(10)))
    assert len({record.id for record, _ in results}) == 1
    assert sum(is_new for _, is_new in results) == 1
    with pytest.raises(Conflict):
        await nodes[0].rooms.create(draft(client_id="c1", members=("bob",), title="Two"))
    _, is_new = await nodes[0].rooms.create(draft(client_id="c1", owner="bob"))
    assert is_new


async def test_an_external_id_is_used_once(node: Node) -> None:
    """A second room of the same external id is refused, and leaves no members behind."""
    await make(node, external_id="crm-7")
    with pytest.raises(Conflict):
        await node.rooms.create(draft(external_id="crm-7", members=("bob",)))
    assert await node.members.memberships_of("bob") == []


async def test_one_direct_room_per_pair(nodes: tuple[Node, Node]) -> None:
    """Both sides asking on two nodes at the same instant get one room, whose other side each of them sees."""
    pairs = [("ann", "bob"), ("bob", "ann")]
    results = await asyncio.gather(*(nodes[index % 2].rooms.create_direct(*pairs[index % 2]) for index in range(20)))
    assert len({record.id for record, _ in results}) == 1
    record = await nodes[0].rooms.get(results[0][0].id)
    assert record is not None
    assert (record.peer_of("ann"), record.peer_of("bob")) == ("bob", "ann")
    assert set(record.opened_by) == {"ann", "bob"}
    assert await roles(nodes[0], record.id) == {"ann": Role.MEMBER, "bob": Role.MEMBER}


async def test_settings_change_one_by_one(node: Node) -> None:
    """What an update does not name stays; an unknown room is none."""
    record = await make(node, title="Plans")
    updated = await node.rooms.update(record.id, slow_mode_seconds=5)
    assert updated is not None
    assert (updated.title, updated.slow_mode_seconds) == ("Plans", 5)
    assert await node.rooms.update("nowhere", title="Plans") is None


async def test_a_deleted_room_is_gone_for_all(node: Node) -> None:
    """Deleting takes memberships and bans along, and tells who was a member."""
    record = await make(node, members=("bob", "cid"))
    await node.members.ownership.ban(record.id, "ann", "cid", may_ban)
    assert set(await node.rooms.delete(record.id)) == {"ann", "bob"}
    assert await node.rooms.get(record.id) is None
    assert await node.members.memberships_of("bob") == []
    assert not await node.members.is_banned(record.id, "cid")
    with pytest.raises(NotFound):
        await node.rooms.delete(record.id)


async def test_channels_are_listed_by_title(node: Node) -> None:
    """The directory pages through channels alone, whatever the case of their titles, and finds parts of them."""
    for title in ("beta", "Alpha", "gamma (old)"):
        await make(node, RoomKind.CHANNEL, title=title)
    await make(node, title="Alpha group")
    first = await node.rooms.channels(None, None, 2)
    assert [record.title for record in first] == ["Alpha", "beta"]
    rest = await node.rooms.channels(None, ("beta", first[-1].id), 2)
    assert [record.title for record in rest] == ["gamma (old)"]
    assert [record.title for record in await node.rooms.channels("A (O", None, 9)] == ["gamma (old)"]


async def test_many_joins_at_once(nodes: tuple[Node, Node]) -> None:
    """Joins of many people, some of them twice and on two nodes, make each a member once."""
    record = await make(nodes[0], RoomKind.CHANNEL)
    users = [f"u{number}" for number in range(400)]
    joined = await asyncio.gather(*(node.members.join(record.id, user) for user in users for node in nodes))
    assert sum(result.is_new for result in joined) == len(users)
    assert {result.role for result in joined} == {Role.MEMBER}
    assert await asyncio.gather(*(nodes[0].members.count(record.id) for _ in range(3))) == [401] * 3


async def test_joining_again_changes_nothing(node: Node) -> None:
    """A member who joins keeps role and watermark, and learns the role."""
    record = await make(node, RoomKind.CHANNEL)
    first = await node.members.get(record.id, "ann")
    joined = await node.members.join(record.id, "ann", read_seq=9)
    assert (joined.role, joined.is_new) == (Role.OWNER, False)
    assert await node.members.get(record.id, "ann") == first


async def test_members_are_listed_in_pages(node: Node) -> None:
    """Longest standing first, equal times by user id, banned ones never, every member once over the pages."""
    record = await make(node, members=("bob", "cid", "dan"))
    await node.members.join(record.id, "eve", read_seq=4)
    await node.members.ownership.ban(record.id, "ann", "cid", may_ban)
    seen: list[Membership] = []
    while page := await node.members.list(record.id, (seen[-1].joined_at, seen[-1].user_id) if seen else None, 2):
        seen += page
    assert [membership.user_id for membership in seen] == ["ann", "bob", "dan", "eve"]
    assert seen[-1].read_seq == 4
    assert await node.members.are_members(record.id, ["ann", "cid", "zoe"]) == {"ann"}
    assert await node.members.count(record.id) == 4


async def test_a_mute_is_the_members_own(node: Node) -> None:
    """Muting sets the time for one member, null lifts it, and who is no member has nothing to mute."""
    record = await make(node)
    until = clock() + timedelta(hours=1)
    assert await node.members.mute(record.id, "ann", until)
    membership = await node.members.get(record.id, "ann")
    assert membership is not None
    assert membership.muted_until == until
    assert await node.members.mute(record.id, "ann", None)
    assert not await node.members.mute(record.id, "bob", until)


async def test_a_ban_outlasts_joins(nodes: tuple[Node, Node]) -> None:
    """Whatever joins come at the same instant as a ban, afterwards the person is out and cannot come back."""
    for round_number in range(10):
        record = await make(nodes[0], RoomKind.CHANNEL)
        user = f"u{round_number}"
        await asyncio.gather(
            *(nodes[index % 2].members.join(record.id, user) for index in range(5)),
            nodes[0].members.ownership.ban(record.id, "ann", user, may_ban),
            *(nodes[index % 2].members.join(record.id, user) for index in range(5)),
        )
        joined = await nodes[1].members.join(record.id, user)
        assert (joined.role, joined.is_new) == (None, False)
        assert await nodes[0].members.get(record.id, user) is None
        assert await nodes[0].members.is_banned(record.id, user)
        assert await nodes[0].members.memberships_of(user) == []
        assert await nodes[0].members.count(record.id) == 1


async def test_lifting_a_ban(node: Node) -> None:
    """An unbanned person is no member but may join; without a ban there is nothing to lift."""
    record = await make(node, members=("bob",))
    assert await node.members.ownership.ban(record.id, "ann", "bob", may_ban)
    assert not await node.members.ownership.ban(record.id, "ann", "bob", may_ban)
    assert await node.members.unban(record.id, "bob")
    assert not await node.members.unban(record.id, "bob")
    assert not await node.members.unban(record.id, "ann")
    assert (await node.members.join(record.id, "bob")).is_new


async def test_the_last_owner_passes_the_room_on(node: Node) -> None:
    """The oldest admin inherits, else the oldest member; other departures change no role."""
    record = await make(node, members=("bob", "cid", "dan"))
    assert await node.members.ownership.leave(record.id, "bob", successor) is None
    await give(node, record.id, "ann", "dan", Role.ADMIN)
    assert await node.members.ownership.leave(record.id, "ann", successor) == "dan"
    assert await node.members.ownership.leave(record.id, "dan", successor) == "cid"
    assert await roles(node, record.id) == {"cid": Role.OWNER}
    with pytest.raises(NotFound):
        await node.members.ownership.leave(record.id, "ann", successor)


async def test_an_abandoned_room_gets_an_owner_again(node: Node) -> None:
    """A channel that everyone left belongs to whoever comes next."""
    record = await make(node, RoomKind.CHANNEL)
    assert await node.members.ownership.leave(record.id, "ann", successor) is None
    empty = await node.rooms.get(record.id)
    assert empty is not None
    assert empty.ownerless
    await node.members.join(record.id, "bob")
    assert await node.members.ownership.appoint_owner(record.id, successor) == "bob"
    assert await node.members.ownership.appoint_owner(record.id, successor) is None
    settled = await node.rooms.get(record.id)
    assert settled is not None
    assert not settled.ownerless


async def test_owners_who_leave_at_the_same_instant(nodes: tuple[Node, Node]) -> None:
    """However many owners and members leave at once, on two nodes, the room keeps an owner among those who stay."""
    for _ in range(10):
        record = await make(nodes[0], members=("bob", "cid", "dan", "eve"))
        await give(nodes[0], record.id, "ann", "bob", Role.OWNER)
        departures = zip(cycle(nodes), ("ann", "bob", "cid", "dan"), strict=False)
        await asyncio.gather(*(node.members.ownership.leave(record.id, who, successor) for node, who in departures))
        assert await roles(nodes[0], record.id) == {"eve": Role.OWNER}


async def test_a_join_beside_the_last_departure(nodes: tuple[Node, Node]) -> None:
    """A channel joined at the instant its last member leaves ends with an owner, once both have looked again."""
    for round_number in range(10):
        record = await make(nodes[0], RoomKind.CHANNEL)
        user = f"u{round_number}"

        async def join(room_id: str = record.id, user: str = user) -> None:
            await nodes[1].members.join(room_id, user)
            await nodes[1].members.ownership.appoint_owner(room_id, successor)

        await asyncio.gather(join(), nodes[0].members.ownership.leave(record.id, "ann", successor))
        assert await roles(nodes[0], record.id) == {user: Role.OWNER}


async def test_owners_who_demote_each_other(nodes: tuple[Node, Node]) -> None:
    """Of two owners who demote each other at the same instant one succeeds, and the other is no longer allowed to."""
    for _ in range(10):
        record = await make(nodes[0], members=("bob",))
        await give(nodes[0], record.id, "ann", "bob", Role.OWNER)
        results = await asyncio.gather(
            give(nodes[0], record.id, "ann", "bob", Role.MEMBER),
            give(nodes[1], record.id, "bob", "ann", Role.MEMBER),
            return_exceptions=True,
        )
        assert [type(result) for result in results if result is not True] == [Forbidden]
        assert sorted((await roles(nodes[0], record.id)).values()) == [Role.MEMBER, Role.OWNER]


async def test_owners_who_kick_each_other(nodes: tuple[Node, Node]) -> None:
    """Of two owners who kick each other at the same instant one stays."""
    record = await make(nodes[0], members=("bob",))
    await give(nodes[0], record.id, "ann", "bob", Role.OWNER)
    results = await asyncio.gather(
        nodes[0].members.ownership.kick(record.id, "ann", "bob", may_kick),
        nodes[1].members.ownership.kick(record.id, "bob", "ann", may_kick),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result is not None] == [NotFound]
    assert list((await roles(nodes[0], record.id)).values()) == [Role.OWNER]


async def test_the_only_owner_stays_one(node: Node) -> None:
    """An owner may step down when there is another, not before; a role already held is no change."""
    record = await make(node, members=("bob",))
    with pytest.raises(Forbidden, match="owner"):
        await give(node, record.id, "ann", "ann", Role.ADMIN)
    assert not await give(node, record.id, "ann", "ann", Role.OWNER)
    assert await give(node, record.id, "ann", "bob", Role.OWNER)
    assert await give(node, record.id, "ann", "ann", Role.MEMBER)
    assert await roles(node, record.id) == {"ann": Role.MEMBER, "bob": Role.OWNER}


async def test_callers_who_give_up_hold_nobody_up(nodes: tuple[Node, Node]) -> None:
    """Changes whose callers are cancelled at any moment take effect or not, and the room's next change goes through."""
    record = await make(nodes[0], members=tuple(f"u{number}" for number in range(40)))
    for number in range(40):
        kick = nodes[0].members.ownership.kick(record.id, "ann", f"u{number}", may_kick)
        with suppress(TimeoutError):
            await asyncio.wait_for(kick, number / 10_000)
    async with asyncio.timeout(3):
        assert not await give(nodes[1], record.id, "ann", "ann", Role.OWNER)
    assert (await roles(nodes[0], record.id))["ann"] is Role.OWNER


async def test_changes_in_no_room(node: Node) -> None:
    """Without the room, or the person, every change is NOT_FOUND."""
    record = await make(node)
    with pytest.raises(NotFound):
        await give(node, "nowhere", "ann", "bob", Role.ADMIN)
    with pytest.raises(NotFound):
        await give(node, record.id, "ann", "bob", Role.ADMIN)
    with pytest.raises(NotFound):
        await node.members.ownership.kick(record.id, "bob", "ann", may_kick)
    with pytest.raises(NotFound):
        await node.members.ownership.leave(record.id, "bob", successor)


async def test_a_room_is_deleted_under_joins(nodes: tuple[Node, Node]) -> None:
    """Joins that come while a room is deleted find none afterwards, so that they can be taken back."""
    for _ in range(5):
        record = await make(nodes[0], RoomKind.CHANNEL)

        async def join(user: str, room_id: str = record.id) -> None:
            await nodes[1].members.join(room_id, user)
            if await nodes[1].rooms.get(room_id) is None:
                await nodes[1].members.forget(room_id, [user])

        await asyncio.gather(*(join(f"u{number}") for number in range(20)), nodes[0].rooms.delete(record.id))
        assert await nodes[0].members.count(record.id) == 0


async def test_profiles_are_kept(mongo: Mongo) -> None:
    """The last profile written counts, also within one batch; unknown users have none."""
    users = UserStore(mongo, clock)
    ann = Profile("Ann", "https://example.com/ann.png")
    await asyncio.gather(users.upsert("ann", Profile("A", None)), users.upsert("ann", ann), users.upsert("bob", ann))
    await users.upsert("ann", ann)
    assert await users.profiles(["ann", "bob", "cid"]) == {"ann": ann, "bob": ann}
    await users.close()
