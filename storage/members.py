"""Who belongs to which room: one document a member, whose `_id` is "room:user"; a ban is a role in it.

So a ban and a membership exclude each other by the primary key alone, and an insert can never undo a ban.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from protocol.types import Role
from storage.batcher import Batcher
from storage.membership import BANNED, MEMBER_ROLES, Clock, Membership, as_membership, member_key, new_member
from storage.mongo import BulkWriteError, Document, Mongo, aggregate, is_outage
from storage.ownership import Ownership
from storage.receipts import Receipts

__all__ = ["Joined", "MemberStore", "Membership"]


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join came to: the role held now, None for who is banned, and whether this call made the membership."""

    role: Role | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Join:
    room_id: str
    user_id: str
    role: Role
    read_seq: int


class MemberStore:
    """The members of all rooms.

    Joins and reads of one loop tick, and those that come while the batch before is under way, are one operation on the
    store; each sees everything acknowledged before it. Banned people appear in no reading but `is_banned`. Leaving,
    kicks, bans and roles are in `ownership`, for they decide who runs a room; watermarks in `receipts`, whose latest
    state is in all that is read here.
    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self.ownership = Ownership(mongo, clock)
        self.receipts = Receipts(mongo, clock)
        self._members = mongo["members"]
        self._clock = clock
        self._joins = Batcher(self._flush_joins)
        self._reads = Batcher(self._flush_reads)
        self._lists = Batcher(self._flush_lists)
        self._counts = Batcher(self._flush_counts)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self.receipts.close()
        for batcher in (self._joins, self._reads, self._lists, self._counts):
            await batcher.close()

    async def join(self, room_id: str, user_id: str, role: Role = Role.MEMBER, read_seq: int = 0) -> Joined:
        """Make someone a member unless they are one, or banned.

        A room that is deleted at the same instant may keep this member: look at the room again afterwards.
        """
        return await self._joins.submit(_Join(room_id, user_id, role, read_seq))

    async def get(self, room_id: str, user_id: str) -> Membership | None:
        """One membership; None also for who is banned."""
        document = await self._reads.submit(member_key(room_id, user_id))
        return self._as_membership(document) if document is not None and document["role"] != BANNED else None

    async def is_banned(self, room_id: str, user_id: str) -> bool:
        """Whether this person is shut out of this room."""
        document = await self._reads.submit(member_key(room_id, user_id))
        return document is not None and document["role"] == BANNED

    async def memberships_of(self, user_id: str) -> list[Membership]:
        """All rooms of a user, in no order."""
        return await self._lists.submit(user_id)

    async def are_members(self, room_id: str, user_ids: Sequence[str]) -> set[str]:
        """Those of these users who are members."""
        memberships = await asyncio.gather(*(self.get(room_id, user_id) for user_id in user_ids))
        return {membership.user_id for membership in memberships if membership is not None}

    async def rooms_joined(self, user_id: str, room_ids: Sequence[str]) -> set[str]:
        """Those of these rooms that the user is a member of."""
        memberships = await asyncio.gather(*(self.get(room_id, user_id) for room_id in room_ids))
        return {membership.room_id for membership in memberships if membership is not None}

    async def share_a_room(self, one: str, other: str) -> bool:
        """Whether there is a room that both are members of."""
        mine, theirs = await asyncio.gather(self.memberships_of(one), self.memberships_of(other))
        return not {member.room_id for member in mine}.isdisjoint(member.room_id for member in theirs)

    async def met_in(self, room_ids: Collection[str], user_ids: Collection[str]) -> set[str]:
        """Those of these users who are members of any of these rooms."""
        if not room_ids or not user_ids:
            return set()
        wanted = {"userId": {"$in": list(user_ids)}, "roomId": {"$in": list(room_ids)}, "role": {"$in": MEMBER_ROLES}}
        found = await aggregate(self._members, [{"$match": wanted}, {"$group": {"_id": "$userId"}}])
        return {document["_id"] for document in found}

    async def count(self, room_id: str) -> int:
        """How many members a room has, counted in the index."""
        return await self._counts.submit(room_id)

    async def mute(self, room_id: str, user_id: str, until: datetime | None) -> bool:
        """Silence a room for one member until then, or no longer; False when they are no member."""
        result = await self._members.update_one(
            {"_id": member_key(room_id, user_id), "role": {"$in": MEMBER_ROLES}}, {"$set": {"mutedUntil": until}}
        )
        return result.matched_count == 1

    async def unban(self, room_id: str, user_id: str) -> bool:
        """Lift a ban; the person is then no member. False when there was none."""
        result = await self._members.delete_one({"_id": member_key(room_id, user_id), "role": BANNED})
        return result.deleted_count == 1

    async def forget(self, room_id: str, user_ids: Sequence[str]) -> None:
        """Drop memberships of a room that is no more."""
        await self._members.delete_many({"_id": {"$in": [member_key(room_id, user_id) for user_id in user_ids]}})

    async def _flush_joins(self, joins: list[_Join]) -> list[Joined]:
        now = self._clock()
        documents = [new_member(join.room_id, join.user_id, join.role, now, join.read_seq) for join in joins]
        keys = [document["_id"] for document in documents]
        made = set(range(len(joins)))
        try:
            await self._members.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if is_outage(error):
                raise
            made -= {fault["index"] for fault in error.details["writeErrors"]}
        found = await self._find([key for index, key in enumerate(keys) if index not in made])
        return [
            Joined(join.role, is_new=True) if index in made else Joined(_role(found.get(key)), is_new=False)
            for index, (join, key) in enumerate(zip(joins, keys, strict=True))
        ]

    async def _flush_reads(self, keys: list[str]) -> list[Document | None]:
        found = await self._find(keys)
        return [found.get(key) for key in keys]

    async def _flush_lists(self, user_ids: list[str]) -> list[list[Membership]]:
        lists: dict[str, list[Membership]] = {user_id: [] for user_id in user_ids}
        cursor = self._members.find({"userId": {"$in": list(lists)}, "role": {"$in": MEMBER_ROLES}})
        for document in await cursor.to_list(None):
            lists[document["userId"]].append(self._as_membership(document))
        return [lists[user_id] for user_id in user_ids]

    async def _flush_counts(self, room_ids: list[str]) -> list[int]:
        counted = await aggregate(
            self._members,
            [
                {"$match": {"roomId": {"$in": list(set(room_ids))}, "role": {"$in": MEMBER_ROLES}}},
                {"$group": {"_id": "$roomId", "members": {"$sum": 1}}},
            ],
        )
        counts = {document["_id"]: document["members"] for document in counted}
        return [counts.get(room_id, 0) for room_id in room_ids]

    async def _find(self, keys: list[str]) -> dict[str, Document]:
        if not keys:
            return {}
        documents = await self._members.find({"_id": {"$in": list(set(keys))}}).to_list(None)
        return {document["_id"]: document for document in documents}

    async def list(self, room_id: str, after: tuple[datetime, str] | None, limit: int) -> list[Membership]:
        """Members, longest standing first, after the one with this `joined_at` and user id."""
        query: Document = {"roomId": room_id, "role": {"$in": MEMBER_ROLES}}
        if after is not None:
            joined_at, user_id = after
            query["joinedAt"] = {"$gte": joined_at}
            query["$or"] = [{"joinedAt": {"$gt": joined_at}}, {"userId": {"$gt": user_id}}]
        cursor = self._members.find(query).sort([("joinedAt", 1), ("userId", 1)]).limit(limit)
        return [self._as_membership(document) for document in await cursor.to_list(None)]

    def _as_membership(self, document: Document) -> Membership:
        return self.receipts.overlay(as_membership(document))


def _role(document: Document | None) -> Role | None:
    return None if document is None or document["role"] == BANNED else Role(document["role"])
