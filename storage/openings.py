"""What a session begins with, read for all that begin at once: where its user belongs, and what they have not read."""

from collections.abc import Sequence
from typing import NamedTuple

from storage.batcher import Batcher
from storage.membership import MEMBER_ROLES, Membership, as_membership
from storage.mongo import Document, Mongo, aggregate
from storage.receipts import Receipts


class Opening(NamedTuple):
    """All rooms of a user, in no order, and the number of their unread notifications."""

    memberships: list[Membership]
    unread_notifications: int


class Openings:
    """One query for the sessions of one loop tick, and those that come while the one before is under way.

    Each sees everything acknowledged before it. Raises: the driver's errors when the store is away, Unavailable when
    too many wait for it.
    """

    def __init__(self, mongo: Mongo, receipts: Receipts) -> None:
        self._members = mongo["members"]
        self._receipts = receipts
        self._reads = Batcher(self._flush)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._reads.close()

    async def of(self, user_id: str) -> Opening:
        """What is stored of a user now."""
        return await self._reads.submit(user_id)

    async def _flush(self, user_ids: Sequence[str]) -> list[Opening]:
        wanted = {"$in": list(set(user_ids))}
        unread: list[Document] = [
            {"$match": {"userId": wanted, "read": False}},
            {"$group": {"_id": "$userId", "unread": {"$sum": 1}}},
        ]
        found = await aggregate(
            self._members,
            [
                {"$match": {"userId": wanted, "role": {"$in": MEMBER_ROLES}}},
                {"$unionWith": {"coll": "notifications", "pipeline": unread}},
            ],
        )
        memberships: dict[str, list[Membership]] = {user_id: [] for user_id in user_ids}
        counts: dict[str, int] = {}
        for document in found:
            if "unread" in document:
                counts[document["_id"]] = document["unread"]
            else:
                memberships[document["userId"]].append(self._receipts.overlay(as_membership(document)))
        return [Opening(memberships[user_id], counts.get(user_id, 0)) for user_id in user_ids]
