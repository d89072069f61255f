"""What has changed since a moment: edits, deletes and reactions, in the order of the database's clock.

A change is stamped when its transaction reads and is seen when that commits, so that it may turn up behind others that
are later: who asks again from a little before the moment of the last time misses none (see `OVERLAP`).
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from protocol.resources import Message
from storage.batcher import Batcher
from storage.messages import as_message, union
from storage.mongo import Document, Mongo

OVERLAP: Final = timedelta(seconds=60)
"""A transaction ends within 4 s; the rest is for a majority that comes late, and for clocks that differ between the
members of a replica set when another one becomes primary."""
FRESH_SECONDS: Final = 1.0
"""How old a moment may be: whoever asks from an earlier one is told a little more, which `OVERLAP` brings anyway."""


class Position(NamedTuple):
    """A place in the feed: what has been seen up to and including this message's change at that time."""

    changed_at: datetime
    room_id: str
    seq: int


class Changed(NamedTuple):
    """A message as it is now, where its last change stands in the feed, and who deleted it, if somebody did."""

    message: Message
    position: Position
    deleted_by: str | None


class ChangeFeed:
    """The changes of all rooms. Raises: the driver's errors when the store is away, Unavailable when too many wait."""

    def __init__(self, mongo: Mongo, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._mongo = mongo
        self._monotonic = monotonic
        self._messages = mongo["messages"]
        self._read: tuple[float, datetime] | None = None
        self._clock_reads = Batcher(self._flush_clock_reads)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._clock_reads.close()

    async def now(self) -> datetime:
        """The time by the clock that changes are stamped by, at most `FRESH_SECONDS` ago."""
        if self._read is not None and self._monotonic() - self._read[0] < FRESH_SECONDS:
            return self._read[1]
        return await self._clock_reads.submit(None)

    async def _flush_clock_reads(self, requests: list[None]) -> list[datetime]:
        began = self._monotonic()
        now = await self._mongo.now()
        self._read = began, now
        return [now] * len(requests)

    async def after(self, position: Position, seen: Mapping[str, int], limit: int) -> list[Changed]:
        """The first `limit` changes beyond a position, in these rooms, of messages up to the seq seen in each."""
        order = {"changedAt": 1, "roomId": 1, "seq": 1}
        pipelines: list[list[Document]] = [
            [
                {"$match": {"roomId": room_id, "seq": {"$lte": seq}, **_beyond(position, room_id)}},
                {"$sort": order},
                {"$limit": limit},
            ]
            for room_id, seq in seen.items()
        ]
        documents = await union(self._messages, pipelines, then=[{"$sort": order}, {"$limit": limit}])
        changes = [
            Changed(
                as_message(document),
                Position(document["changedAt"], document["roomId"], document["seq"]),
                document.get("deletedBy"),
            )
            for document in documents
        ]
        return sorted(changes, key=lambda changed: changed.position)[:limit]


def _beyond(position: Position, room_id: str) -> Document:
    at = position.changed_at
    if room_id == position.room_id:
        return {
            "changedAt": {"$gte": at},
            "$or": [{"changedAt": {"$gt": at}}, {"seq": {"$gt": position.seq}}],
        }
    return {"changedAt": {"$gte" if room_id > position.room_id else "$gt": at}}
