"""Threads: the replies to a message, and what they amount to. Both are derived from the log by one partial index.

A deleted reply has left the index (its `replyTo` is put aside), so that a summary is a count of index entries.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.resources import Message, ThreadSummary
from storage.batcher import Batcher
from storage.messages import as_message, union
from storage.mongo import Document, Mongo, Session

Place = tuple[str, int]
"""A room and a seq."""

_SUMMARY: Final[Document] = {
    "$group": {
        "_id": {"roomId": "$roomId", "seq": "$replyTo"},
        "count": {"$sum": 1},
        "last": {"$max": {"seq": "$seq", "at": "$createdAt"}},
    }
}


class ThreadStore:
    """The threads of all rooms.

    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._messages = mongo["messages"]
        self._reads = Batcher(self._flush_reads)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._reads.close()

    async def summaries(self, messages: Iterable[Message]) -> dict[Place, ThreadSummary]:
        """The threads of those of these messages that have one; what callers ask for at once is read together."""
        places = [(message.room_id, message.seq) for message in messages]
        return await self._reads.submit(places) if places else {}

    async def replies(self, room_id: str, seq: int, after: int, limit: int) -> list[Message]:
        """The first replies to a message beyond `after`, ascending, without deleted ones."""
        query = {"roomId": room_id, "replyTo": seq, "seq": {"$gt": after}}
        documents = await self._messages.find(query).sort("seq", 1).limit(limit).to_list(limit)
        return [as_message(document) for document in documents]

    async def _flush_reads(self, requests: list[list[Place]]) -> list[dict[Place, ThreadSummary]]:
        wanted: dict[str, set[int]] = {}
        for room_id, seq in (place for places in requests for place in places):
            wanted.setdefault(room_id, set()).add(seq)
        found = await self.read(wanted, None)
        return [{place: found[place] for place in places if place in found} for places in requests]

    async def read(self, wanted: Mapping[str, set[int]], session: Session | None) -> dict[Place, ThreadSummary]:
        """The threads of these messages, given as the seqs of each room."""
        pipelines: list[list[Document]] = [
            [{"$match": {"roomId": room_id, "replyTo": {"$in": sorted(seqs)}}}, _SUMMARY]
            for room_id, seqs in wanted.items()
        ]
        return {
            (found["_id"]["roomId"], found["_id"]["seq"]): ThreadSummary(
                count=found["count"], last_seq=found["last"]["seq"], last_at=found["last"]["at"]
            )
            for found in await union(self._messages, pipelines, session)
        }
