"""The message log: append by group commit, read by range. One clustered collection, ordered by (room, seq)."""

import asyncio
import hashlib
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from protocol.commands import ROOM_MENTION
from protocol.resources import PREVIEW_CODE_POINTS, LastMessage, Message
from storage.batcher import Batcher
from storage.lane import PATIENCE_SECONDS, Append, Appended, Lane
from storage.membership import Membership
from storage.mongo import Document, Mongo, Session, aggregate

LANES = 4
"""Batches in flight at once: enough to keep one mongod busy, few enough to keep batches large."""
UNION_MAX = 100
"""Rooms asked for in one aggregation; MongoDB takes at most 1,000 stages."""
_SEQ_BYTES = 8
_SEQ_LAST = 2**63 - 1


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


class RoomState(NamedTuple):
    """A room as one member sees it at this moment."""

    last_seq: int
    last_message: LastMessage | None
    unread: int
    mentions: int


def payload_digest(payload: list[Any]) -> bytes:
    """What a send with the same clientId must carry again to be the same message."""
    return hashlib.blake2b(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def message_key(room_id: str, seq: int) -> bytes:
    """The primary key: rooms beside each other, each in the order of its seqs."""
    return room_id.encode() + seq.to_bytes(_SEQ_BYTES, "big")


def as_message(document: Document) -> Message:
    """A stored message as the wire shows it."""
    seq, room_id = document["seq"], document["roomId"]
    return Message(
        message_id=f"{room_id}.{seq}",
        room_id=room_id,
        seq=seq,
        sender_id=document["senderId"],
        text=document["text"],
        client_id=None if document.get("anonymous") else document["clientId"],
        reply_to=document["replyTo"],
        attachments=[],
        mentions=document["mentions"],
        metadata=document["metadata"],
        reactions={},
        thread=None,
        created_at=document["createdAt"],
        edited_at=None,
        deleted_at=None,
    )


class MessageLog:
    """Every message of every room. Nothing is returned, or delivered, before a majority has journalled it.

    Raises: the driver's errors when the store is away (reads), Unavailable (appends).
    """

    def __init__(self, mongo: Mongo, clock: Callable[[], datetime], on_batch: Callable[[int], None]) -> None:
        self._messages = mongo["messages"]
        self._clock = clock
        self._tail_reads = Batcher(self._flush_tails)
        self._state_reads = Batcher(self._flush_states)
        self._lanes = [
            Lane(self._messages, mongo.start_session, self._read_tails, message_key, on_batch) for _ in range(LANES)
        ]

    async def close(self) -> None:
        """Commit what was taken, and take no more."""
        await asyncio.gather(
            *(lane.close() for lane in self._lanes), self._tail_reads.close(), self._state_reads.close()
        )

    # --- appending ------------------------------------------------------------------------------------------------

    def append(self, draft: Draft) -> "asyncio.Future[Appended]":
        """Take the next place in the room's order, now; the result comes when the message is durable there.

        A message with the clientId of one that its sender has stored in this room before is that message again
        (`duplicate`). The future raises Conflict when its payload differs, Unavailable when the outcome is unknown.
        Cancelling the wait does not undo the append.
        """
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
            asyncio.get_running_loop().create_future(),
            draft.session_id,
        )
        self._lane(draft.room_id).append(append)
        return append.result

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
        cursor = self._messages.find(_range(room_id, after, before)).sort("_id", -1 if newest else 1).limit(limit)
        messages = [as_message(document) for document in await cursor.to_list(limit)]
        return messages[::-1] if newest else messages

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
        newest: list[Document] = [{"$sort": {"_id": -1}}, {"$limit": 1}, {"$project": {"roomId": 1, "seq": 1}}]
        pipelines = [[{"$match": _range(room_id)}, *newest] for room_id in room_ids]
        for document in await self._union(pipelines, session):
            tails[document["roomId"]] = document["seq"]
        return tails

    async def room_states(self, memberships: Sequence[Membership]) -> dict[str, RoomState]:
        """What each membership's room looks like to that member, all of one user, by room; read with other callers'."""
        return await self._state_reads.submit(list(memberships))

    async def _flush_states(self, requests: list[list[Membership]]) -> list[dict[str, RoomState]]:
        """Two rounds however many ask: the newest message of each room, then what is unread where anything is."""
        last = await self._last_messages(list({m.room_id for memberships in requests for m in memberships}))
        behind = [m for request in requests for m in request if m.room_id in last and last[m.room_id].seq > m.read_seq]
        counts = await self._unread_counts(behind)
        return [
            {
                m.room_id: RoomState(
                    last[m.room_id].seq if m.room_id in last else 0,
                    last.get(m.room_id),
                    *counts.get((m.room_id, m.user_id), (0, 0)),
                )
                for m in memberships
            }
            for memberships in requests
        ]

    async def _last_messages(self, room_ids: Sequence[str]) -> dict[str, LastMessage]:
        shown = {"roomId": 1, "seq": 1, "senderId": 1, "createdAt": 1}
        preview = {
            "$cond": [{"$eq": [{"$type": "$text"}, "string"]}, {"$substrCP": ["$text", 0, PREVIEW_CODE_POINTS]}, None]
        }
        newest: list[Document] = [{"$sort": {"_id": -1}}, {"$limit": 1}, {"$project": {**shown, "text": preview}}]
        documents = await self._union([[{"$match": _range(room_id)}, *newest] for room_id in room_ids])
        return {
            document["roomId"]: LastMessage(
                seq=document["seq"],
                sender_id=document["senderId"],
                text=document["text"],
                created_at=document["createdAt"],
            )
            for document in documents
        }

    async def _unread_counts(self, memberships: Sequence[Membership]) -> dict[tuple[str, str], tuple[int, int]]:
        """By room and user: others' messages above the read watermark, and those of them that mention the user."""
        pipelines: list[list[Document]] = []
        for m in memberships:
            mentioned = {"$min": [1, {"$size": {"$setIntersection": ["$mentions", [m.user_id, ROOM_MENTION]]}}]}
            pipelines.append(
                [
                    {"$match": {**_range(m.room_id, m.read_seq), "senderId": {"$ne": m.user_id}}},
                    {"$group": {"_id": "$roomId", "unread": {"$sum": 1}, "mentions": {"$sum": mentioned}}},
                    {"$set": {"userId": {"$literal": m.user_id}}},
                ]
            )
        documents = await self._union(pipelines)
        return {(found["_id"], found["userId"]): (found["unread"], found["mentions"]) for found in documents}

    async def _union(self, pipelines: Iterable[list[Document]], session: Session | None = None) -> list[Document]:
        """The results of many pipelines over the log, many of them in one query.

        A clustered collection reads one range of keys at a time: `$or` and `$lookup` over many rooms scan it all.
        """
        waiting = list(pipelines)
        documents: list[Document] = []
        while waiting:
            first, *more = waiting[:UNION_MAX]
            del waiting[:UNION_MAX]
            stages = [{"$unionWith": {"coll": self._messages.name, "pipeline": pipeline}} for pipeline in more]
            documents += await aggregate(self._messages, [*first, *stages], session)
        return documents

    async def drop_room(self, room_id: str) -> None:
        """Delete all messages of a room that is no more."""
        await self._messages.delete_many(_range(room_id))


def _range(room_id: str, after: int = 0, before: int = _SEQ_LAST) -> Document:
    return {"_id": {"$gt": message_key(room_id, after), "$lt": message_key(room_id, min(before, _SEQ_LAST))}}
