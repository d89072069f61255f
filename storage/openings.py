"""What a session begins with: where its user belongs, and what they have not read."""

from collections.abc import Sequence
from typing import NamedTuple

from storage.membership import MEMBER_ROLES, Membership, as_membership
from storage.mongo import Document
from storage.reads import Kind, Query, Reads
from storage.receipts import Receipts


class Opening(NamedTuple):
    """All rooms of a user, in no order, and the number of their unread notifications."""

    memberships: list[Membership]
    unread_notifications: int


class Openings:
    """Reads what sessions begin with. Raises: as `Reads`."""

    def __init__(self, reads: Reads, receipts: Receipts) -> None:
        self._reads = reads
        self._receipts = receipts
        self._kind = Kind(_plan, self._answer)

    async def of(self, user_id: str) -> Opening:
        """What is stored of a user now."""
        return await self._reads.ask(self._kind, user_id)

    def _answer(self, user_ids: Sequence[str], found: Sequence[Document]) -> list[Opening]:
        memberships: dict[str, list[Membership]] = {user_id: [] for user_id in user_ids}
        counts: dict[str, int] = {}
        for document in found:
            if "unread" in document:
                counts[document["_id"]] = document["unread"]
            else:
                memberships[document["userId"]].append(self._receipts.overlay(as_membership(document)))
        return [Opening(memberships[user_id], counts.get(user_id, 0)) for user_id in user_ids]


def _plan(user_ids: Sequence[str]) -> list[Query]:
    wanted = {"$in": list(set(user_ids))}
    unread: list[Document] = [
        {"$match": {"userId": wanted, "read": False}},
        {"$group": {"_id": "$userId", "unread": {"$sum": 1}}},
    ]
    return [
        Query("members", [{"$match": {"userId": wanted, "role": {"$in": MEMBER_ROLES}}}]),
        Query("notifications", unread),
    ]
