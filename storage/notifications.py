"""Notifications of each user, kept 90 days: one document a user and notification, whose `_id` is "user\\nid".

The id of a mention is made of its room and seq, so that the same message never notifies the same person twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from protocol.types import NotificationType
from storage.batcher import Batcher
from storage.mongo import BulkWriteError, Document, Mongo, aggregate, is_outage
from storage.room import KEY_SEPARATOR


@dataclass(frozen=True, slots=True)
class NotificationRecord:
    """A notification as stored, read or not. `id` is unique among its user's."""

    id: str
    type: NotificationType
    title: str
    body: str
    data: dict[str, Any]
    created_at: datetime
    read: bool = False


Entry = tuple[str, NotificationRecord]
"""A user, and what they are told."""


class NotificationStore:
    """What users are to be told of, whether they are connected or not.

    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._notifications = mongo["notifications"]
        self._counts = Batcher(self._flush_counts)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._counts.close()

    async def add(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Keep notifications, all in one insert, and say which of them are new."""
        documents = [_as_document(user_id, record) for user_id, record in entries]
        try:
            await self._notifications.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if is_outage(error):
                raise
            known = {fault["index"] for fault in error.details["writeErrors"]}
            return [entry for index, entry in enumerate(entries) if index not in known]
        return entries

    async def remove(self, user_ids: Sequence[str], notification_id: str) -> None:
        """Take a notification back from these users."""
        await self._notifications.delete_many(
            {"_id": {"$in": [_key(user_id, notification_id) for user_id in user_ids]}}
        )

    async def list(
        self, user_id: str, before: tuple[datetime, str] | None, limit: int, *, unread_only: bool
    ) -> list[NotificationRecord]:
        """A user's notifications, newest first, after the one with this time and id."""
        query: Document = {"userId": user_id}
        if unread_only:
            query["read"] = False
        if before is not None:
            created_at, notification_id = before
            query["createdAt"] = {"$lte": created_at}
            query["$or"] = [{"createdAt": {"$lt": created_at}}, {"_id": {"$lt": _key(user_id, notification_id)}}]
        cursor = self._notifications.find(query).sort([("createdAt", -1), ("_id", -1)]).limit(limit)
        return [_as_record(document) for document in await cursor.to_list(limit)]

    async def mark_read(self, user_id: str, ids: Sequence[str]) -> int:
        """Mark these as read, and say how many of them the user has, read or not."""
        keys = [_key(user_id, notification_id) for notification_id in ids]
        result = await self._notifications.update_many({"_id": {"$in": keys}}, {"$set": {"read": True}})
        return result.matched_count

    async def mark_all_read(self, user_id: str) -> None:
        """Mark all that a user has as read."""
        await self._notifications.update_many({"userId": user_id, "read": False}, {"$set": {"read": True}})

    async def unread_count(self, user_id: str) -> int:
        """How many a user has not read, counted in the index; what callers of one tick ask for is one query."""
        return await self._counts.submit(user_id)

    async def _flush_counts(self, user_ids: Sequence[str]) -> Sequence[int]:
        counted = await aggregate(
            self._notifications,
            [
                {"$match": {"userId": {"$in": [*set(user_ids)]}, "read": False}},
                {"$group": {"_id": "$userId", "unread": {"$sum": 1}}},
            ],
        )
        counts = {document["_id"]: document["unread"] for document in counted}
        return [counts.get(user_id, 0) for user_id in user_ids]


def _key(user_id: str, notification_id: str) -> str:
    return f"{user_id}{KEY_SEPARATOR}{notification_id}"


def _as_document(user_id: str, record: NotificationRecord) -> Document:
    return {
        "_id": _key(user_id, record.id),
        "userId": user_id,
        "type": record.type,
        "title": record.title,
        "body": record.body,
        "data": record.data,
        "createdAt": record.created_at,
        "read": record.read,
    }


def _as_record(document: Document) -> NotificationRecord:
    return NotificationRecord(
        id=document["_id"].split(KEY_SEPARATOR, 1)[1],
        type=document["type"],
        title=document["title"],
        body=document["body"],
        data=document["data"],
        created_at=document["createdAt"],
        read=document["read"],
    )
