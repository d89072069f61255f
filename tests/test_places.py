"""Where people stand in rooms: one look for the room, their memberships and the number of members."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from protocol.types import RoomKind
from server.app import utc_now
from storage.members import MemberStore
from storage.mongo import Mongo
from storage.places import Place, Places
from storage.reads import Reads
from storage.rooms import NewRoom, RoomRecord, RoomStore


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores that a look reads from."""

    rooms: RoomStore
    members: MemberStore
    places: Places

    async def room(self, owner: str, *others: str) -> RoomRecord:
        """A channel of these people."""
        new = NewRoom(RoomKind.CHANNEL, owner, others, None, {}, None, None)
        return (await self.rooms.create(new))[0]


@pytest.fixture
async def stores_of(mongo: Mongo) -> AsyncIterator[Stores]:
    """The stores, by each driver."""
    members, reads = MemberStore(mongo, utc_now), Reads(mongo)
    parts = Stores(RoomStore(mongo, utc_now), members, Places(reads, members.receipts))
    yield parts
    for store in (reads, parts.rooms, parts.members):
        await store.close()


async def test_looks_at_once_get_what_each_asked_for(stores_of: Stores) -> None:
    """Rooms, people and counts of different looks in one query do not mix."""
    first, second = await stores_of.room("ann", "bob", "cid"), await stores_of.room("bob")
    look = stores_of.places.look
    counted, plain, other, nothing = await asyncio.gather(
        look(first.id, ["ann", "zoe"], counted=True),
        look(first.id, ["bob"]),
        look(second.id, ["ann"], counted=True),
        look("no-such-room", ["ann"], counted=True),
    )
    assert (counted.record, set(counted.memberships), counted.member_count) == (first, {"ann"}, 3)
    assert (plain.record, set(plain.memberships), plain.member_count) == (first, {"bob"}, 0)
    assert (other.record, other.memberships, other.member_count) == (second, {}, 1)
    assert nothing == Place(None, {}, 0, 0)


async def test_a_look_sees_acknowledged_receipts_and_takes_a_ban_for_no_membership(stores_of: Stores) -> None:
    """A watermark counts as soon as it is acknowledged; who is banned is neither a member nor counted."""
    room = await stores_of.room("ann", "bob")
    membership = await stores_of.members.get(room.id, "ann")
    assert membership is not None
    stores_of.members.receipts.advance(membership, read_seq=3)
    await stores_of.members.ownership.ban(room.id, "ann", "bob", lambda actor, target: None)
    place = await stores_of.places.look(room.id, ["ann", "bob"], counted=True)
    assert (set(place.memberships), place.memberships["ann"].read_seq, place.member_count) == ({"ann"}, 3, 1)
