"""Where people stand in a room: the room, their memberships in it, how many members there are, and its last seq."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from storage.membership import MEMBER_ROLES, Membership, as_membership, member_key
from storage.messages import newest_of
from storage.mongo import Document
from storage.reads import Kind, Query, Reads
from storage.receipts import Receipts
from storage.room import RoomRecord, as_record

_OF_MEMBERS: Final = {"role": {"$in": MEMBER_ROLES}}


class Place(NamedTuple):
    """A room, None when there is none, and those of the people asked for who are members, by user.

    `member_count` and `tail`, the last seq, are 0 unless they were asked for.
    """

    record: RoomRecord | None
    memberships: dict[str, Membership]
    member_count: int
    tail: int


class _Look(NamedTuple):
    room_id: str
    user_ids: tuple[str, ...]
    counted: bool
    with_tail: bool


class Places:
    """Looks at rooms and people in them. Raises: as `Reads`."""

    def __init__(self, reads: Reads, receipts: Receipts) -> None:
        self._reads = reads
        self._receipts = receipts
        self._kind = Kind(_plan, self._answer)

    async def look(
        self, room_id: str, user_ids: Sequence[str], *, counted: bool = False, with_tail: bool = False
    ) -> Place:
        """A room and these people in it as they are now; `counted` walks the index over all of its members."""
        return await self._reads.ask(self._kind, _Look(room_id, tuple(user_ids), counted, with_tail))

    def _answer(self, looks: Sequence[_Look], found: Sequence[Document]) -> list[Place]:
        records: dict[str, RoomRecord] = {}
        memberships: dict[str, Membership] = {}
        counts: dict[str, int] = {}
        tails: dict[str, int] = {}
        for document in found:
            if "members" in document:
                counts[document["_id"]] = document["members"]
            elif "seq" in document:
                tails[document["roomId"]] = document["seq"]
            elif "userId" in document:
                memberships[document["_id"]] = self._receipts.overlay(as_membership(document))
            else:
                records[document["_id"]] = as_record(document)

        def place(look: _Look) -> Place:
            mine = {user_id: memberships.get(member_key(look.room_id, user_id)) for user_id in look.user_ids}
            return Place(
                records.get(look.room_id),
                {user_id: membership for user_id, membership in mine.items() if membership is not None},
                counts.get(look.room_id, 0) if look.counted else 0,
                tails.get(look.room_id, 0) if look.with_tail else 0,
            )

        return [place(look) for look in looks]


def _plan(looks: Sequence[_Look]) -> list[Query]:
    rooms = list({look.room_id for look in looks})
    keys = list({member_key(look.room_id, user_id) for look in looks for user_id in look.user_ids})
    queries = [Query("rooms", [{"$match": {"_id": {"$in": rooms}}}])]
    if keys:
        queries.append(Query("members", [{"$match": {"_id": {"$in": keys}, **_OF_MEMBERS}}]))
    if counted := list({look.room_id for look in looks if look.counted}):
        count = {"$group": {"_id": "$roomId", "members": {"$sum": 1}}}
        queries.append(Query("members", [{"$match": {"roomId": {"$in": counted}, **_OF_MEMBERS}}, count]))
    tails = {look.room_id for look in looks if look.with_tail}
    return [*queries, *(Query("messages", newest_of(room_id)) for room_id in tails)]
