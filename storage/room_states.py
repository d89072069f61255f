"""What a room looks like to one of its members, from the log: its newest message, and what is unread.

A stretch of seqs has no holes, so that what is unread of it is its length, less the member's own messages and the
deleted ones of others. A short stretch is read through; of a long one only those are looked up, each by its index, so
that a count costs what there is of them and not what is unread.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from protocol.commands import ROOM_MENTION
from protocol.resources import PREVIEW_CODE_POINTS, LastMessage
from storage.batcher import Batcher
from storage.membership import Membership
from storage.messages import SEQ_LAST, key_range, union
from storage.mongo import Document, Mongo

READ_THROUGH_MAX: Final = 500
"""Messages that are read about as fast as three look-ups."""


class Unread(NamedTuple):
    """Others' undeleted messages, and those of them that mention the member or the room."""

    unread: int = 0
    mentions: int = 0


class RoomState(NamedTuple):
    """A room as one member sees it at this moment."""

    last_seq: int
    last_message: LastMessage | None
    unread: int
    mentions: int


class Stretch(NamedTuple):
    """The messages with after < seq <= last of a room, as one member sees them."""

    room_id: str
    user_id: str
    after: int
    last: int


NOTHING: Final = Unread()


class RoomStates:
    """Reads of the log that lists of rooms are made of; what callers ask for in one loop tick is read together.

    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._messages = mongo["messages"]
        self._newest_reads = Batcher(self._flush_newest)
        self._counts = Batcher(self._flush_counts)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._newest_reads.close()
        await self._counts.close()

    async def of(self, memberships: Sequence[Membership]) -> dict[str, RoomState]:
        """What each membership's room looks like to that member, all of one user, by room."""
        newest = await self.newest(dict.fromkeys((m.room_id for m in memberships), SEQ_LAST))
        behind = [
            Stretch(m.room_id, m.user_id, m.read_seq, newest[m.room_id].seq)
            for m in memberships
            if m.room_id in newest and newest[m.room_id].seq > m.read_seq
        ]
        counts = dict(zip((stretch.room_id for stretch in behind), await self.unread(behind), strict=True))
        return {
            m.room_id: RoomState(
                newest[m.room_id].seq if m.room_id in newest else 0,
                newest.get(m.room_id),
                *counts.get(m.room_id, NOTHING),
            )
            for m in memberships
        }

    async def newest(self, last: Mapping[str, int]) -> dict[str, LastMessage]:
        """The newest message of each room that is not beyond this seq; rooms without one are left out."""
        return await self._newest_reads.submit(dict(last)) if last else {}

    async def unread(self, stretches: Sequence[Stretch]) -> list[Unread]:
        """What is unread of each of them."""
        return await self._counts.submit(list(stretches)) if stretches else []

    async def _flush_newest(self, requests: list[dict[str, int]]) -> list[dict[str, LastMessage]]:
        fields = {"roomId": 1, "seq": 1, "senderId": 1, "createdAt": 1}
        preview = {
            "$cond": [{"$eq": [{"$type": "$text"}, "string"]}, {"$substrCP": ["$text", 0, PREVIEW_CODE_POINTS]}, None]
        }
        newest: list[Document] = [{"$sort": {"_id": -1}}, {"$limit": 1}, {"$project": {**fields, "text": preview}}]
        places = list({place for request in requests for place in request.items()})
        # Where callers disagree about the end of a room, the later one finds both.
        found: dict[str, list[LastMessage]] = {}
        for document in await union(
            self._messages, [[{"$match": key_range(room_id, 0, last + 1)}, *newest] for room_id, last in places]
        ):
            message = LastMessage(
                seq=document["seq"],
                sender_id=document["senderId"],
                text=document["text"],
                created_at=document["createdAt"],
            )
            found.setdefault(document["roomId"], []).append(message)
        answers = [
            {room_id: _newest(found.get(room_id, ()), last) for room_id, last in request.items()}
            for request in requests
        ]
        return [{room_id: shown for room_id, shown in answer.items() if shown is not None} for answer in answers]

    async def _flush_counts(self, requests: list[list[Stretch]]) -> list[list[Unread]]:
        stretches = list({stretch for request in requests for stretch in request})
        pipelines = [
            pipeline
            for number, stretch in enumerate(stretches)
            for pipeline in (
                [_read_through(stretch, number)]
                if stretch.last - stretch.after <= READ_THROUGH_MAX
                else _look_up(stretch, number)
            )
        ]
        documents = await union(self._messages, pipelines)
        found = {number: list(parts) for number, parts in groupby(sorted(documents, key=_number), key=_number)}
        counts = {
            stretch: Unread(
                sum((part.get("unread", 0) for part in found.get(number, ())), _length(stretch)),
                sum(part.get("mentions", 0) for part in found.get(number, ())),
            )
            for number, stretch in enumerate(stretches)
        }
        return [[counts[stretch] for stretch in request] for request in requests]


def _number(document: Document) -> int:
    number: int = document["number"]
    return number


def _newest(found: Sequence[LastMessage], last: int) -> LastMessage | None:
    return max((m for m in found if m.seq <= last), key=lambda m: m.seq, default=None)


def _length(stretch: Stretch) -> int:
    """What counting by look-ups starts from."""
    length = stretch.last - stretch.after
    return 0 if length <= READ_THROUGH_MAX else length


def _read_through(stretch: Stretch, number: int) -> list[Document]:
    mentioned = {"$min": [1, {"$size": {"$setIntersection": ["$mentions", [stretch.user_id, ROOM_MENTION]]}}]}
    others = {"senderId": {"$ne": stretch.user_id}, "deletedAt": None}
    return [
        {"$match": {**key_range(stretch.room_id, stretch.after, stretch.last + 1), **others}},
        {"$group": {"_id": None, "unread": {"$sum": 1}, "mentions": {"$sum": mentioned}}},
        {"$set": {"number": {"$literal": number}}},
    ]


def _look_up(stretch: Stretch, number: int) -> list[list[Document]]:
    """What of a long stretch is not unread, and what mentions; each by its index."""
    within = {"roomId": stretch.room_id, "seq": {"$gt": stretch.after, "$lte": stretch.last}}
    another = {"senderId": {"$ne": stretch.user_id}}
    own = {**within, "senderId": stretch.user_id}
    deleted = {**within, **another, "deletedAt": {"$type": "date"}}
    mentions = {"$in": [stretch.user_id, ROOM_MENTION]}
    mentioning = {**within, **another, "mentions": mentions, "mentions.0": {"$exists": True}, "deletedAt": None}
    return [
        [
            {"$match": match},
            {"$group": {"_id": None, field: {"$sum": amount}}},
            {"$set": {"number": {"$literal": number}}},
        ]
        for match, field, amount in ((own, "unread", -1), (deleted, "unread", -1), (mentioning, "mentions", 1))
    ]
