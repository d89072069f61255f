"""Migrations: once, in order, by one node at a time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from storage.migrations import LOCK, MIGRATIONS, MigrationsBusy, migrate
from storage.mongo import Document, Mongo

NUMBERS = [number for number, _ in MIGRATIONS]


def now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


async def drop_everything(mongo: Mongo) -> None:
    """Back to a database that nobody has migrated."""
    for name in await mongo.database.list_collection_names():
        await mongo.database.drop_collection(name)


async def indexes(mongo: Mongo, collection: str) -> dict[str, Document]:
    """The indexes of a collection by name."""
    return {name: dict(index) for name, index in (await mongo[collection].index_information()).items()}


async def test_an_empty_database_is_brought_up_to_date(mongo: Mongo) -> None:
    """Collections and unique keys are there, and the message log is clustered by its natural key."""
    await drop_everything(mongo)
    assert await migrate(mongo, now=now) == NUMBERS
    unique = [index["key"] for index in (await indexes(mongo, "rooms")).values() if index.get("unique")]
    assert sorted(key[0][0] for key in unique) == ["creationKey", "externalId", "pairKey"]
    messages = (await indexes(mongo, "messages"))["roomId_1_senderId_1_clientId_1"]
    assert messages["unique"]
    options = await mongo["messages"].options()
    assert options["clusteredIndex"]["key"] == {"_id": 1}
    assert await mongo["migrations"].find_one({"_id": LOCK}) is None


async def test_running_again_changes_nothing(mongo: Mongo) -> None:
    """A database that is up to date is left as it is."""
    before = await mongo["migrations"].find({}).to_list(None)
    assert await migrate(mongo, now=now) == []
    assert await mongo["migrations"].find({}).to_list(None) == before


async def test_a_migration_that_died_half_way_is_repeated(mongo: Mongo) -> None:
    """Work done but not recorded is no obstacle: every migration takes what it finds."""
    await mongo["migrations"].delete_many({})
    assert await migrate(mongo, now=now) == NUMBERS


async def test_nodes_that_start_at_once_share_the_work(mongo: Mongo) -> None:
    """Of several runners each migration is applied by exactly one, and all end with an up-to-date database."""
    await drop_everything(mongo)
    applied = await asyncio.gather(*(migrate(mongo, now=now) for _ in range(4)))
    assert sorted(number for numbers in applied for number in numbers) == NUMBERS


async def test_a_lease_that_ran_out_is_taken_over(mongo: Mongo) -> None:
    """The lock of a node that died does not stop the next one."""
    await drop_everything(mongo)
    await mongo["migrations"].insert_one({"_id": LOCK, "owner": "dead", "expiresAt": now() - timedelta(seconds=1)})
    assert await migrate(mongo, now=now) == NUMBERS


async def test_waiting_for_another_node_has_an_end(mongo: Mongo) -> None:
    """While another node holds the lock nothing is applied, and the wait ends with a message for people."""
    await drop_everything(mongo)
    await mongo["migrations"].insert_one({"_id": LOCK, "owner": "other", "expiresAt": now() + timedelta(seconds=60)})
    with pytest.raises(MigrationsBusy, match="another node"):
        await migrate(mongo, now=now, wait_seconds=0.5)
    assert await mongo["migrations"].count_documents({}) == 1
