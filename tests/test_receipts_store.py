"""Watermarks on their way to the store: forward only, seldom written, never lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect

from protocol.errors import Unavailable
from protocol.types import Role
from server.app import utc_now
from storage import receipts as receipts_module
from storage.members import Membership, MemberStore
from storage.mongo import Collection, Mongo
from storage.receipts import Receipt

SETTINGS = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CALLS = st.lists(st.tuples(st.sampled_from(["read", "delivered"]), st.integers(1, 30), st.booleans()), max_size=20)


async def member(store: MemberStore, room_id: str, user_id: str) -> Membership:
    """Someone's membership, made if need be."""
    await store.join(room_id, user_id, Role.MEMBER)
    found = await store.get(room_id, user_id)
    assert found is not None
    return found


async def stored(mongo: Mongo, room_id: str, user_id: str) -> tuple[int, int]:
    """The watermarks in the database, read and delivered."""
    document = await mongo["members"].find_one({"_id": f"{room_id}:{user_id}"})
    assert document is not None
    return document["readSeq"], document["deliveredSeq"]


@pytest.fixture
async def store(mongo: Mongo) -> AsyncIterator[MemberStore]:
    """The members of one process."""
    store = MemberStore(mongo, utc_now)
    yield store
    await store.close()


@given(calls=CALLS)
@SETTINGS
async def test_watermarks_are_the_highest_ever_reported(mongo: Mongo, calls: list[tuple[str, int, bool]]) -> None:
    """In any order, by two processes at once; the one that took a report sees it at once."""
    nodes = MemberStore(mongo, utc_now), MemberStore(mongo, utc_now)
    await mongo["members"].delete_many({})
    await member(nodes[0], "room", "ann")
    read = delivered = 0
    own = [(0, 0), (0, 0)]
    for kind, seq, second in calls:
        found = await nodes[second].get("room", "ann")
        assert found is not None
        stands = nodes[second].receipts.advance(found, **{f"{kind}_seq": seq})
        read, delivered = (max(read, seq) if kind == "read" else read), max(delivered, seq)
        before = own[second]
        own[second] = (max(before[0], seq) if kind == "read" else before[0]), max(before[1], seq)
        assert (stands.read_seq, stands.delivered_seq) >= own[second]
        again = await nodes[second].get("room", "ann")
        assert again is not None
        assert again.read_seq >= own[second][0]
        assert again.delivered_seq >= own[second][1]
        assert again.read_seq <= read
        assert again.delivered_seq <= delivered
    for node in nodes:
        await node.close()
    assert await stored(mongo, "room", "ann") == (read, delivered)


async def test_a_storm_is_few_writes(store: MemberStore, mongo: Mongo) -> None:
    """Thousands of reports by many members are one bulk write a round, each member once in it, and only what moved."""
    rounds: list[Sequence[Receipt]] = []

    async def note(receipts: Sequence[Receipt]) -> None:
        rounds.append(receipts)

    store.receipts.on_written = note
    members = [await member(store, "room", f"user{number}") for number in range(50)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    for seq in range(1, 101):
        for membership in members:
            store.receipts.advance(membership, delivered_seq=seq)
            store.receipts.advance(membership, read_seq=seq)
        await asyncio.sleep(0.005)
    await store.receipts.close()
    assert len(rounds) <= (loop.time() - began) / receipts_module.ROUND_SECONDS + 2
    for receipts in rounds:
        assert len({receipt.user_id for receipt in receipts}) == len(receipts)
    marks = [
        receipt.read.seq for receipts in rounds for receipt in receipts if receipt.user_id == "user7" and receipt.read
    ]
    assert marks == sorted(set(marks))
    assert await stored(mongo, "room", "user49") == (100, 100)


async def test_what_another_process_has_passed_is_not_told(store: MemberStore, mongo: Mongo) -> None:
    """Nor is what somebody reported who is no member any more."""
    told: list[str] = []

    async def note(receipts: Sequence[Receipt]) -> None:
        told.extend(receipt.user_id for receipt in receipts)

    store.receipts.on_written = note
    ann, ben, cat = [await member(store, "room", user_id) for user_id in ("ann", "ben", "cat")]
    await mongo["members"].update_one({"_id": "room:ann"}, {"$set": {"readSeq": 9, "deliveredSeq": 9}})
    await mongo["members"].delete_one({"_id": "room:cat"})
    for membership in (ann, ben, cat):
        store.receipts.advance(membership, read_seq=5)
    await store.receipts.close()
    assert told == ["ben"]
    assert await stored(mongo, "room", "ann") == (9, 9)


class FaultyCollection:
    """The driver's collection, losing its connection in so many bulk writes: before they arrive, or after."""

    def __init__(self, collection: Collection, faults: list[str]) -> None:
        self._collection = collection
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    async def bulk_write(self, writes: Any, ordered: bool) -> Any:
        """Write, or not, or without an answer."""
        fault = self._faults.pop(0) if self._faults else "none"
        if fault == "before":
            raise AutoReconnect("connection lost")
        result = await self._collection.bulk_write(writes, ordered=ordered)
        if fault == "after":
            raise AutoReconnect("connection lost")
        return result


@pytest.mark.parametrize("faults", [["before"], ["after"], ["before", "after", "before"]])
async def test_a_store_that_fails_gets_them_in_a_later_round(
    store: MemberStore, mongo: Mongo, faults: list[str]
) -> None:
    """What cannot be written waits, is seen by who reads here, is told once, and survives the end."""
    told: list[int] = []

    async def note(receipts: Sequence[Receipt]) -> None:
        told.extend(receipt.read.seq for receipt in receipts if receipt.read is not None)

    store.receipts.on_written = note
    membership = await member(store, "room", "ann")
    store.receipts._members = cast(Collection, FaultyCollection(mongo["members"], faults))
    store.receipts.advance(membership, read_seq=3)
    await asyncio.sleep(0)
    store.receipts.advance(membership, read_seq=7)
    assert store.receipts.overlay(membership).read_seq == 7
    await store.close()
    assert await stored(mongo, "room", "ann") == (7, 7)
    assert told[-1] == 7
    assert told == sorted(set(told))
    with pytest.raises(Unavailable):
        store.receipts.advance(membership, read_seq=8)


async def test_more_than_can_wait_is_refused(store: MemberStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer has a bound; those in it may still move on."""
    monkeypatch.setattr(receipts_module, "UNWRITTEN_MAX", 2)
    ann, ben, cat = [await member(store, "room", user_id) for user_id in ("ann", "ben", "cat")]
    store.receipts.advance(ann, read_seq=1)
    store.receipts.advance(ben, read_seq=1)
    with pytest.raises(Unavailable):
        store.receipts.advance(cat, read_seq=1)
    assert store.receipts.advance(ann, read_seq=2).read_seq == 2


async def test_who_has_a_message_is_known_before_it_is_written(store: MemberStore, mongo: Mongo) -> None:
    """Pages in order of standing, from the store and from what is on its way there."""
    names = [f"user{number}" for number in range(6)]
    members: dict[str, Any] = {name: await member(store, "room", name) for name in names}
    await store.join("room", "late", Role.MEMBER, read_seq=9)
    for name in names[::2]:
        store.receipts.advance(members[name], delivered_seq=9)
    first = await store.receipts.reached("room", 5, None, 2)
    rest = await store.receipts.reached("room", 5, (first[-1].joined_at, first[-1].user_id), 10)
    assert sorted(found.user_id for found in first + rest) == names[::2]
    assert all(found.delivered_at is not None and found.delivered_seq == 9 for found in first + rest)
    await store.receipts.close()
    written = await store.receipts.reached("room", 5, None, 10)
    assert [found.user_id for found in written] == [found.user_id for found in first + rest]
    assert await store.receipts.reached("room", 10, None, 10) == []
