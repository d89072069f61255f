"""The message log: ordered on disk by room and seq, one message per sender's client id."""

from storage.mongo import Mongo, create_collection


async def apply(mongo: Mongo) -> None:
    """Create what is missing of it."""
    await create_collection(mongo, "messages", clusteredIndex={"key": {"_id": 1}, "unique": True})
    await mongo["messages"].create_index([("roomId", 1), ("senderId", 1), ("clientId", 1)], unique=True)
