"""Revocations: read in the order of their numbers, forgotten by themselves when nothing is left that they could hit."""

from storage.mongo import Mongo, create_collection


async def apply(mongo: Mongo) -> None:
    """Create what is missing of it."""
    # A transaction writes to these, and should not have to create them on the way.
    for name in ("revocations", "counters"):
        await create_collection(mongo, name)
    # Made by two transactions at once, it would fail one of them.
    await mongo["counters"].update_one({"_id": "revocations"}, {"$setOnInsert": {"value": 0}}, upsert=True)
    await mongo["revocations"].create_index("number", unique=True)
    await mongo["revocations"].create_index("expiresAt", expireAfterSeconds=0)
