"""Where people stand in a room: the room, their memberships in it, and how many members there are, in one look."""

from collections.abc import Sequence
from typing import NamedTuple

from storage.batcher import Batcher
from storage.membership import MEMBER_ROLES, Membership, as_membership, member_key
from storage.mongo import Document, Mongo, aggregate
from storage.receipts import Receipts
from storage.room import RoomRecord, as_record


class Place(NamedTuple):
    """A room, None when there is none, and those of the people asked for who are members, by user.

    `member_count` is 0 unless it was asked for.
    """

    record: RoomRecord | None
    memberships: dict[str, Membership]
    member_count: int


class _Look(NamedTuple):
    room_id: str
    user_ids: tuple[str, ...]
    counted: bool


class Places:
    """One query for the looks of one loop tick, and those that come while the one before is under way.

    Each sees everything acknowledged before it. Raises: the driver's errors when the store is away, Unavailable when
    too many wait for it.
    """

    def __init__(self, mongo: Mongo, receipts: Receipts) -> None:
        self._rooms = mongo["rooms"]
        self._receipts = receipts
        self._looks = Batcher(self._flush)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._looks.close()

    async def look(self, room_id: str, user_ids: Sequence[str], *, counted: bool = False) -> Place:
        """A room and these people in it as they are now; `counted` walks the index over all of its members."""
        return await self._looks.submit(_Look(room_id, tuple(user_ids), counted))

    async def _flush(self, looks: list[_Look]) -> list[Place]:
        records: dict[str, RoomRecord] = {}
        memberships: dict[str, Membership] = {}
        counts: dict[str, int] = {}
        for document in await aggregate(self._rooms, _pipeline(looks)):
            if "members" in document:
                counts[document["_id"]] = document["members"]
            elif "userId" in document:
                memberships[document["_id"]] = self._receipts.overlay(as_membership(document))
            else:
                records[document["_id"]] = as_record(document)
        return [
            Place(
                records.get(look.room_id),
                {
                    user_id: membership
                    for user_id in look.user_ids
                    if (membership := memberships.get(member_key(look.room_id, user_id))) is not None
                },
                counts.get(look.room_id, 0) if look.counted else 0,
            )
            for look in looks
        ]


def _pipeline(looks: Sequence[_Look]) -> list[Document]:
    rooms = list({look.room_id for look in looks})
    keys = list({member_key(look.room_id, user_id) for look in looks for user_id in look.user_ids})
    counted = list({look.room_id for look in looks if look.counted})
    of_members = {"role": {"$in": MEMBER_ROLES}}
    pipeline: list[Document] = [
        {"$match": {"_id": {"$in": rooms}}},
        {"$unionWith": {"coll": "members", "pipeline": [{"$match": {"_id": {"$in": keys}, **of_members}}]}},
    ]
    if counted:
        count = [
            {"$match": {"roomId": {"$in": counted}, **of_members}},
            {"$group": {"_id": "$roomId", "members": {"$sum": 1}}},
        ]
        pipeline.append({"$unionWith": {"coll": "members", "pipeline": count}})
    return pipeline
