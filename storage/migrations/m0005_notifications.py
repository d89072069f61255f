"""Notifications, blocks, reports of messages, and what is counted of direct rooms to strangers."""

from storage.mongo import Mongo, create_collection

NOTIFICATION_SECONDS = 90 * 24 * 3600
QUOTA_SECONDS = 24 * 3600


async def apply(mongo: Mongo) -> None:
    """Create what is missing of it."""
    for name in ("notifications", "blocks", "reports", "direct_quotas"):
        await create_collection(mongo, name)
    notifications = mongo["notifications"]
    await notifications.create_index([("userId", 1), ("createdAt", 1), ("_id", 1)])
    # Counts and lists of what is unread come from here, however much is read and kept.
    await notifications.create_index(
        [("userId", 1), ("read", 1), ("createdAt", 1), ("_id", 1)],
        partialFilterExpression={"read": False},
        name="unread",
    )
    await notifications.create_index("createdAt", expireAfterSeconds=NOTIFICATION_SECONDS, name="expiry")
    await mongo["reports"].create_index([("createdAt", 1), ("_id", 1)])
    await mongo["direct_quotas"].create_index("lastAt", expireAfterSeconds=QUOTA_SECONDS, name="expiry")
