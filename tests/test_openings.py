"""What sessions begin with: one query for all that begin at once, and never older than what was acknowledged."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from protocol.types import Role, RoomKind
from server.app import utc_now
from storage.members import MemberStore
from storage.mongo import Mongo
from storage.notifications import NotificationRecord, NotificationStore
from storage.openings import Openings
from storage.reads import Reads
from storage.rooms import NewRoom, RoomStore


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores that an opening is read from."""

    rooms: RoomStore
    members: MemberStore
    notifications: NotificationStore
    openings: Openings

    async def room(self, owner: str, *others: str) -> str:
        """A group of these people."""
        new = NewRoom(RoomKind.GROUP, owner, others, None, {}, None, None)
        return (await self.rooms.create(new))[0].id


@pytest.fixture
async def stores_of(mongo: Mongo) -> AsyncIterator[Stores]:
    """The stores, by each driver."""
    members, reads = MemberStore(mongo, utc_now), Reads(mongo)
    parts = Stores(RoomStore(mongo, utc_now), members, NotificationStore(mongo), Openings(reads, members.receipts))
    yield parts
    for store in (reads, parts.rooms, parts.members, parts.notifications):
        await store.close()


async def test_an_opening_has_all_rooms_and_the_unread_notifications_of_each_user(stores_of: Stores) -> None:
    """Users who open at once get their own, and who has nothing gets nothing."""
    both, alone = await stores_of.room("ann", "bob"), await stores_of.room("ann")
    notes = [NotificationRecord(f"n{number}", "push", "", "", {}, utc_now()) for number in range(3)]
    await stores_of.notifications.add([("ann", note) for note in notes] + [("cid", notes[0])])
    await stores_of.notifications.mark_read("ann", ["n1"])
    ann, bob, cid, again = await asyncio.gather(*map(stores_of.openings.of, ("ann", "bob", "cid", "ann")))
    assert {(place.room_id, place.role) for place in ann.memberships} == {(both, Role.OWNER), (alone, Role.OWNER)}
    assert [(place.room_id, place.role) for place in bob.memberships] == [(both, Role.MEMBER)]
    assert [opening.unread_notifications for opening in (ann, bob, cid)] == [2, 0, 1]
    assert cid.memberships == []
    assert again == ann


async def test_an_opening_shows_receipts_that_are_not_written_yet_and_no_bans(stores_of: Stores) -> None:
    """A watermark counts as soon as it is acknowledged, and a ban is no membership."""
    room_id = await stores_of.room("ann", "bob")
    membership = await stores_of.members.get(room_id, "ann")
    assert membership is not None
    stores_of.members.receipts.advance(membership, read_seq=7)
    await stores_of.members.ownership.ban(room_id, "ann", "bob", lambda actor, target: None)
    assert [place.read_seq for place in (await stores_of.openings.of("ann")).memberships] == [7]
    assert (await stores_of.openings.of("bob")).memberships == []
