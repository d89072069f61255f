"""The message log: append by group commit, read by range. One clustered collection, ordered by (room, seq)."""

import asyncio
import hashlib
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from protocol.resources import Message
from storage.batcher import Batcher
from storage.lane import PATIENCE_SECONDS, Append, Appended, Lane, Settled
from storage.mongo import Collection, Document, Mongo, Session, aggregate

LANES = 4
"""Batches in flight at once: enough to keep one mongod busy, few enough to keep batches large."""
UNION_MAX = 100
"""Rooms asked for in one aggregation; MongoDB takes at most 1,000 stages."""
_SEQ_BYTES = 8
SEQ_LAST = 2**63 - 1


@dataclass(slots=True)
class Draft:
    """A message as its sender means it, checked, not yet stored."""

    room_id: str
    sender_id: str
    client_id: str | None
    text: str | None
    reply_to: int | None
    mentions: list[str]
    metadata: dict[str, Any]
    digest: bytes
    session_id: str | None = None


def payload_digest(payload: list[Any]) -> bytes:
    """What a send with the same clientId must carry again to be the same message."""
    return hashlib.blake2b(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def message_key(room_id: str, seq: int) -> bytes:
    """The primary key: rooms beside each other, each in the order of its seqs."""
    return room_id.encode() + seq.to_bytes(_SEQ_BYTES, "big")


def as_message(document: Document) -> Message:
    """A stored message as the wire shows it, but for its thread, which is kept nowhere."""
    seq, room_id = document["seq"], document["roomId"]
    return Message.trusted(
        {
            "message_id": f"{room_id}.{seq}",
            "room_id": room_id,
            "seq": seq,
            "sender_id": document["senderId"],
            "type": "text",
            "text": document["text"],
            "client_id": None if document.get("anonymous") else document["clientId"],
            "reply_to": document["replyTo"] or document.get("formerReplyTo"),
            "attachments": [],
            "mentions": document["mentions"],
            "metadata": document["metadata"],
            "reactions": document.get("reactions", {}),
            "thread": None,
            "created_at": document["createdAt"],
            "edited_at": document.get("editedAt"),
            "deleted_at": document.get("deletedAt"),
        }
    )


class MessageLog:
    """Every message of every room. Nothing is returned, or delivered, before a majority has journalled it.

    Raises: the driver's errors when the store is away (reads), Unavailable (appends).
    """

    def __init__(self, mongo: Mongo, clock: Callable[[], datetime], on_batch: Callable[[int], None]) -> None:
        self._messages = mongo["messages"]
        self._clock = clock
        self._tail_reads = Batcher(self._flush_tails)
        self._lanes = [
            Lane(self._messages, mongo.start_session, self._read_tails, message_key, on_batch) for _ in range(LANES)
        ]

    async def close(self) -> None:
        """Commit what was taken, and take no more."""
        await asyncio.gather(*(lane.close() for lane in self._lanes), self._tail_reads.close())

    # --- appending ------------------------------------------------------------------------------------------------

    def append(self, draft: Draft) -> "asyncio.Future[Appended]":
        """Take the next place in the room's order, now; the result comes when the message is durable there.

        A message with the clientId of one that its sender has stored in this room before is that message again
        (`duplicate`). The future raises Conflict when its payload differs, Unavailable when the outcome is unknown.
        Cancelling the wait does not undo the append.
        """
        appended: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.append_then(draft, partial(_resolve, appended))
        return appended

    def append_then(self, draft: Draft, settled: Settled) -> None:
        """As `append`; what the future would hold is told to `settled`, synchronously, before other messages' fate."""
        document = {
            "_id": b"",
            "roomId": draft.room_id,
            "seq": 0,
            "senderId": draft.sender_id,
            "clientId": draft.client_id if draft.client_id is not None else secrets.token_urlsafe(16),
            "digest": draft.digest,
            "text": draft.text,
            "replyTo": draft.reply_to,
            "mentions": draft.mentions,
            "metadata": draft.metadata,
            "createdAt": self._clock(),
        }
        if draft.client_id is None:
            document["anonymous"] = True
        append = Append(
            document,
            time.monotonic() + PATIENCE_SECONDS,
            settled,
            draft.session_id,
        )
        self._lane(draft.room_id).append(append)

    async def has_sent(self, room_id: str, sender_id: str, client_id: str) -> bool:
        """Whether the message with this clientId is stored, or on its way there from this process."""
        if self._lane(room_id).under_way((room_id, sender_id, client_id)) is not None:
            return True
        key = {"roomId": room_id, "senderId": sender_id, "clientId": client_id}
        return await self._messages.find_one(key, {"_id": 1}) is not None

    def sending_session(self, message: Message) -> str | None:
        """The session that sent this message, while its sender has not been answered yet."""
        if message.client_id is None:
            return None
        append = self._lane(message.room_id).under_way((message.room_id, message.sender_id, message.client_id))
        return None if append is None else append.session_id

    def _lane(self, room_id: str) -> Lane:
        return self._lanes[zlib.crc32(room_id.encode()) % LANES]

    # --- reading --------------------------------------------------------------------------------------------------

    async def between(
        self, room_id: str, after: int, before: int, limit: int, *, newest: bool = False
    ) -> list[Message]:
        """Messages with after < seq < before, ascending: the first `limit` of them, or the `newest`."""
        cursor = self._messages.find(key_range(room_id, after, before)).sort("_id", -1 if newest else 1).limit(limit)
        messages = [as_message(document) for document in await cursor.to_list(limit)]
        return messages[::-1] if newest else messages

    async def get(self, room_id: str, seq: int) -> Message | None:
        """One message."""
        document = await self._messages.find_one({"_id": message_key(room_id, seq)})
        return as_message(document) if document is not None else None

    async def exists(self, room_id: str, seq: int) -> bool:
        """Whether the room has this seq."""
        return await self._messages.find_one({"_id": message_key(room_id, seq)}, {"_id": 1}) is not None

    async def tail(self, room_id: str) -> int:
        """The room's last seq, 0 when it has none."""
        return (await self.tails([room_id]))[room_id]

    async def tails(self, room_ids: Sequence[str]) -> dict[str, int]:
        """The last seq of each room, 0 for none; what callers ask for in one loop tick is read together."""
        return await self._tail_reads.submit(list(room_ids))

    async def _flush_tails(self, requests: list[list[str]]) -> list[dict[str, int]]:
        tails = await self._read_tails(list({room_id for room_ids in requests for room_id in room_ids}), None)
        return [{room_id: tails[room_id] for room_id in room_ids} for room_ids in requests]

    async def _read_tails(self, room_ids: Sequence[str], session: Session | None) -> dict[str, int]:
        tails = dict.fromkeys(room_ids, 0)
        for document in await union(self._messages, map(newest_of, room_ids), session):
            tails[document["roomId"]] = document["seq"]
        return tails

    async def drop_room(self, room_id: str) -> None:
        """Delete all messages of a room that is no more."""
        await self._messages.delete_many(key_range(room_id))


def _resolve(appended: "asyncio.Future[Appended]", outcome: Appended | Exception) -> None:
    if appended.done():
        return
    if isinstance(outcome, Exception):
        appended.set_exception(outcome)
    else:
        appended.set_result(outcome)


def key_range(room_id: str, after: int = 0, before: int = SEQ_LAST) -> Document:
    """The messages of a room with after < seq < before, as one range of the log."""
    return {"_id": {"$gt": message_key(room_id, after), "$lt": message_key(room_id, min(before, SEQ_LAST))}}


def newest_of(room_id: str) -> list[Document]:
    """The pipeline to the room and seq of its last message."""
    newest: list[Document] = [{"$sort": {"_id": -1}}, {"$limit": 1}, {"$project": {"roomId": 1, "seq": 1}}]
    return [{"$match": key_range(room_id)}, *newest]


async def union(
    messages: Collection,
    pipelines: Iterable[list[Document]],
    session: Session | None = None,
    *,
    then: Sequence[Document] = (),
) -> list[Document]:
    """The results of many pipelines over the log, many of them in one query; `then` follows on each query.

    A clustered collection reads one range of keys at a time: `$or` and `$lookup` over many rooms scan it all.
    """
    waiting = list(pipelines)
    documents: list[Document] = []
    while waiting:
        first, *more = waiting[:UNION_MAX]
        del waiting[:UNION_MAX]
        stages = [{"$unionWith": {"coll": messages.name, "pipeline": pipeline}} for pipeline in more]
        documents += await aggregate(messages, [*first, *stages, *then], session)
    return documents
