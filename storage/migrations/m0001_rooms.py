"""Rooms, members and users, with the keys that make a room one of a kind."""

from storage.mongo import Mongo, create_collection

UNIQUE_ROOM_KEYS = ("externalId", "pairKey", "creationKey")


async def apply(mongo: Mongo) -> None:
    """Create what is missing of it."""
    # A transaction writes to these, and should not have to create them on the way.
    for name in ("rooms", "members", "users"):
        await create_collection(mongo, name)
    for key in UNIQUE_ROOM_KEYS:
        await mongo["rooms"].create_index(key, unique=True, partialFilterExpression={key: {"$exists": True}})
    await mongo["rooms"].create_index(
        [("sortTitle", 1), ("_id", 1)], partialFilterExpression={"kind": "channel"}, name="channels"
    )
    await mongo["members"].create_index([("userId", 1), ("roomId", 1)])
    # The role comes second, so that the next in succession is one step away and counts and lists pass over bans.
    await mongo["members"].create_index([("roomId", 1), ("role", 1), ("joinedAt", 1), ("userId", 1)])
