"""What counting the unread needs of long logs: the deleted messages and those with mentions, and no others."""

from storage.mongo import Mongo


async def apply(mongo: Mongo) -> None:
    """Create what is missing of it."""
    messages = mongo["messages"]
    # Neither costs a message anything that is not deleted and mentions nobody.
    await messages.create_index(
        [("roomId", 1), ("seq", 1)], partialFilterExpression={"deletedAt": {"$type": "date"}}, name="deleted"
    )
    await messages.create_index(
        [("roomId", 1), ("mentions", 1), ("seq", 1)],
        partialFilterExpression={"mentions.0": {"$exists": True}},
        name="mentions",
    )
