"""How far each member's devices have got, and how far the member has read: watermarks in the member documents.

Receipts are no messages: they are acknowledged before they are written. One writer brings the latest watermarks of
all members to the store, round by round, so that a member's document is written at most once a round, however often
its owner reports. What is not written yet lies over everything that is read meanwhile.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

import structlog

from protocol.errors import Unavailable
from storage.membership import MEMBER_ROLES, Clock, Membership, as_membership, member_key
from storage.mongo import Document, Mongo, UpdateOne, is_outage

ROUND_SECONDS: Final = 0.2
"""From the end of one round of writes to the start of the next."""
PAUSE_SHARE: Final = 4
"""How many times as long as a bulk write took the pause before the next one is, so that messages have the store to
themselves for most of the time; a member who reports on meanwhile costs nothing more."""
BATCH_MIN: Final = 100
BATCHES: Final = 10
"""Of one round, and of more than so many members each: a round is spread out, but not without end."""
BATCH_MAX: Final = 1_000
"""Members in one bulk write: more would hold up the journal for everybody else."""
UNWRITTEN_MAX: Final = 50_000
"""Members whose receipts may wait for the store, about 25 MB; beyond it receipts are refused."""
WRITTEN_MAX: Final = 50_000
"""Written ones kept a little longer: a reading that began before the write may end after it."""
CLOSE_SECONDS: Final = 10.0
"""How long a store that is away is waited for at shutdown."""

log = structlog.get_logger()


class Mark(NamedTuple):
    """A watermark, and when it was reached."""

    seq: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a member's watermarks have moved; None for one that has not."""

    room_id: str
    user_id: str
    read: Mark | None
    delivered: Mark | None

    def over(self, other: "Receipt") -> "Receipt":
        """Both in one: of each watermark the higher one."""
        return replace(self, read=_higher(other.read, self.read), delivered=_higher(other.delivered, self.delivered))


OnWritten = Callable[[Sequence[Receipt]], Awaitable[None]]


async def _nobody(receipts: Sequence[Receipt]) -> None:
    """Nobody wants to know."""


class Receipts:
    """The watermarks under way to the store. They only move forward, whatever comes in whichever order.

    `on_written` is told of what a bulk write has moved, after it. A store that fails keeps them waiting for the next
    round. Raises: the driver's errors when the store is away (reads), Unavailable (too many wait).
    """

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self.on_written: OnWritten = _nobody
        self._members = mongo["members"]
        self._clock = clock
        self._now = asyncio.get_running_loop().time
        self._unwritten: dict[str, Receipt] = {}
        self._written: OrderedDict[str, Receipt] = OrderedDict()
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def overlay(self, membership: Membership) -> Membership:
        """A membership as read from the store, with all that has been acknowledged on this node."""
        key = member_key(membership.room_id, membership.user_id)
        for receipt in (self._written.get(key), self._unwritten.get(key)):
            if receipt is not None:
                membership = _apply(receipt, membership)
        return membership

    def advance(self, membership: Membership, *, read_seq: int = 0, delivered_seq: int = 0) -> Membership:
        """Move a member's watermarks forward, if these are further; read implies delivered. Returns how they stand.

        Raises: Unavailable when too many members' receipts wait for the store, or it is closed.
        """
        now = self._clock()
        stands = self.overlay(membership)
        read = Mark(read_seq, now) if read_seq > stands.read_seq else None
        reached = max(read_seq, delivered_seq)
        delivered = Mark(reached, now) if reached > stands.delivered_seq else None
        if read is None and delivered is None:
            return stands
        receipt = Receipt(membership.room_id, membership.user_id, read, delivered)
        key = member_key(membership.room_id, membership.user_id)
        waiting = self._unwritten.get(key)
        if self._closing.is_set() or (waiting is None and len(self._unwritten) >= UNWRITTEN_MAX):
            raise Unavailable("too many receipts wait for the store")
        self._unwritten[key] = receipt if waiting is None else receipt.over(waiting)
        if self._writer is None:
            # The writer belongs to no caller: it must not inherit the deadline of whoever came first.
            self._writer = asyncio.create_task(self._write_rounds(), context=Context())
        return _apply(receipt, stands)

    async def reached(self, room_id: str, seq: int, after: tuple[datetime, str] | None, limit: int) -> list[Membership]:
        """Members who have reported to have a message, longest standing first, after this `joined_at` and user id."""
        ahead = [
            key
            for key, receipt in self._unwritten.items()
            if receipt.room_id == room_id and receipt.delivered is not None and receipt.delivered.seq >= seq
        ]
        # Who joined later starts at the room's last seq without having reported anything.
        reported: Document = {"deliveredSeq": {"$gte": seq}, "deliveredAt": {"$type": "date"}}
        wanted: list[Document] = [{"$or": [reported, {"_id": {"$in": ahead}}]}]
        if after is not None:
            joined_at, user_id = after
            wanted.append({"joinedAt": {"$gte": joined_at}})
            wanted.append({"$or": [{"joinedAt": {"$gt": joined_at}}, {"userId": {"$gt": user_id}}]})
        query = {"roomId": room_id, "role": {"$in": MEMBER_ROLES}, "$and": wanted}
        cursor = self._members.find(query).sort([("joinedAt", 1), ("userId", 1)]).limit(limit)
        return [self.overlay(as_membership(document)) for document in await cursor.to_list(None)]

    async def close(self) -> None:
        """Take nothing more, and write what was taken; a store that is away is given up after a while, and logged."""
        self._closing.set()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=CLOSE_SECONDS)
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        if self._unwritten:
            log.error("receipts lost", members=len(self._unwritten))

    async def _write_rounds(self) -> None:
        try:
            # Let the callers of this loop tick in.
            await asyncio.sleep(0)
            while self._unwritten:
                await self._write_round(list(self._unwritten))
                await self._pause(ROUND_SECONDS)
        finally:
            self._writer = None

    async def _write_round(self, keys: Sequence[str]) -> None:
        size = min(max(BATCH_MIN, -(-len(keys) // BATCHES)), BATCH_MAX)
        for start in range(0, len(keys), size):
            began = self._now()
            # What stands now, which may be further than at the start of the round.
            await self._write({key: self._unwritten[key] for key in keys[start : start + size]})
            if start + size < len(keys):
                await self._pause(min(PAUSE_SHARE * (self._now() - began), ROUND_SECONDS))

    async def _pause(self, seconds: float) -> None:
        """Let a round's time pass, unless all is written at the end."""
        if not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closing.wait()
        elif self._unwritten:
            await asyncio.sleep(ROUND_SECONDS)

    async def _write(self, batch: dict[str, Receipt]) -> None:
        """One bulk write; what it does not bring to the store stays unwritten."""
        writes = [UpdateOne(_behind(key, receipt), [{"$set": _forward(receipt)}]) for key, receipt in batch.items()]
        try:
            result = await self._members.bulk_write(writes, ordered=False)
            moved = list(batch.values()) if result.matched_count == len(batch) else await self._standing(batch)
        except Exception as error:
            if is_outage(error):
                log.warning("receipts not written yet", members=len(batch), reason=type(error).__name__)
            else:
                log.exception("receipts not written", members=len(batch))
            return
        for key, receipt in batch.items():
            self._keep_written(key, receipt)
        try:
            await self.on_written(moved)
        except Exception as error:
            log.warning("receipts not told", members=len(moved), reason=type(error).__name__)

    async def _standing(self, batch: dict[str, Receipt]) -> list[Receipt]:
        """Those that are how things stand now: no other node was further, and the member is still one."""
        query = {"_id": {"$in": list(batch)}, "role": {"$in": MEMBER_ROLES}}
        found = await self._members.find(query, {"readSeq": 1, "deliveredSeq": 1}).to_list(None)
        return [receipt for document in found if _stands(receipt := batch[document["_id"]], document)]

    def _keep_written(self, key: str, receipt: Receipt) -> None:
        if self._unwritten.get(key) is receipt:
            del self._unwritten[key]
        before = self._written.get(key)
        self._written[key] = receipt if before is None else receipt.over(before)
        self._written.move_to_end(key)
        if len(self._written) > WRITTEN_MAX:
            self._written.popitem(last=False)


def _higher(one: Mark | None, other: Mark | None) -> Mark | None:
    if one is None or other is None:
        return one or other
    return one if one.seq >= other.seq else other


def _apply(receipt: Receipt, membership: Membership) -> Membership:
    changes: dict[str, Any] = {}
    if receipt.read is not None and receipt.read.seq > membership.read_seq:
        changes |= {"read_seq": receipt.read.seq, "read_at": receipt.read.at}
    if receipt.delivered is not None and receipt.delivered.seq > membership.delivered_seq:
        changes |= {"delivered_seq": receipt.delivered.seq, "delivered_at": receipt.delivered.at}
    return replace(membership, **changes) if changes else membership


def _marks(receipt: Receipt) -> list[tuple[str, Mark]]:
    return [(name, mark) for name, mark in (("read", receipt.read), ("delivered", receipt.delivered)) if mark]


def _behind(key: str, receipt: Receipt) -> Document:
    """The member's document, if either watermark would move."""
    lower = [{f"{name}Seq": {"$lt": mark.seq}} for name, mark in _marks(receipt)]
    return {"_id": key, "role": {"$in": MEMBER_ROLES}, "$or": lower}


def _forward(receipt: Receipt) -> Document:
    fields: Document = {}
    for name, mark in _marks(receipt):
        fields[f"{name}At"] = {"$cond": [{"$lt": [f"${name}Seq", mark.seq]}, mark.at, f"${name}At"]}
        fields[f"{name}Seq"] = {"$max": [f"${name}Seq", mark.seq]}
    return fields


def _stands(receipt: Receipt, document: Document) -> bool:
    return all(document[f"{name}Seq"] == mark.seq for name, mark in _marks(receipt))
