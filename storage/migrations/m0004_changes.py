"""Changes of messages: what is kept beside them, and the ways to changed messages and to replies."""

from storage.mongo import Mongo, create_collection


async def apply(mongo: Mongo) -> None:
    """Create what is missing of it."""
    # A transaction writes to these, and should not have to create them on the way.
    for name in ("reactions", "edits"):
        await create_collection(mongo, name)
    # Partial, so that a message costs nothing here until it is changed, or unless it is a reply.
    await mongo["messages"].create_index(
        [("roomId", 1), ("changedAt", 1), ("seq", 1)],
        partialFilterExpression={"changedAt": {"$exists": True}},
        name="changes",
    )
    await mongo["messages"].create_index(
        [("roomId", 1), ("replyTo", 1), ("seq", 1), ("createdAt", 1)],
        partialFilterExpression={"replyTo": {"$gt": 0}},
        name="replies",
    )
