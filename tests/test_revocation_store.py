"""Revocations in MongoDB, on both drivers: read in the order of commit, each forgotten in its time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from server.app import utc_now
from storage.mongo import Mongo
from storage.revocations import KEEP, Revocation, RevocationKind, RevocationStore

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
USERS = 20


@pytest.fixture
async def store(mongo: Mongo) -> AsyncIterator[RevocationStore]:
    """An empty store."""
    store = RevocationStore(mongo, utc_now)
    yield store
    await store.close()


async def test_who_reads_on_misses_nothing(mongo: Mongo, store: RevocationStore) -> None:
    """While many are written at once, a reader that goes on from the last number it saw sees each of them."""
    other = RevocationStore(mongo, utc_now)
    seen: list[Revocation] = []

    async def read() -> None:
        while len({revocation.subject for revocation in seen}) < USERS:
            seen.extend(await other.changes(seen[-1].number if seen else 0, 3))

    reader = asyncio.create_task(read())
    await asyncio.gather(*(store.block_user(f"user{number}") for number in range(USERS)))
    await asyncio.wait_for(reader, 10)
    numbers = [revocation.number for revocation in seen]
    assert numbers == sorted(set(numbers))
    assert await store.newest() == numbers[-1]
    await other.close()


async def test_each_kind_is_kept_as_long_as_it_can_hit(mongo: Mongo, store: RevocationStore) -> None:
    """Of a user's times the latest counts; withdrawals carry the day on which MongoDB forgets them, blocks none."""
    await store.revoke_token("t1")
    await store.revoke_user("ann", NOON)
    await store.revoke_user("ann", NOON - timedelta(days=1))
    await store.block_user("ann")
    by_kind = {revocation.kind: revocation for revocation in await store.concerning("ann", "t1")}
    assert set(by_kind) == set(RevocationKind)
    assert by_kind[RevocationKind.USER].issued_before == NOON
    assert await store.concerning("bob", None) == []
    documents = {document["kind"]: document for document in await mongo["revocations"].find().to_list(None)}
    assert documents["user"]["expiresAt"] == NOON + KEEP
    assert documents["token"]["expiresAt"] > utc_now() + KEEP - timedelta(minutes=1)
    assert documents["block"]["expiresAt"] is None
    indexes = await mongo["revocations"].index_information()
    assert [index["expireAfterSeconds"] for index in indexes.values() if "expireAfterSeconds" in index] == [0]


async def test_a_block_is_lifted_once(store: RevocationStore) -> None:
    """A lift is a change that readers see, and the block can be set again."""
    assert not await store.lift_block("ann")
    await store.block_user("ann")
    (block,) = await store.changes(0, 10)
    assert await store.lift_block("ann")
    assert not await store.lift_block("ann")
    (lift,) = await store.changes(block.number, 10)
    assert (lift.subject, lift.lifted) == ("ann", True)
    await store.block_user("ann")
    assert [change.lifted for change in await store.changes(lift.number, 10)] == [False]
