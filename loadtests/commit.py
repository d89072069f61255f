"""Group commit driven directly, without a server in between, and plain `insert_one` of the same documents beside it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from loadtests.latency import Histogram
from storage.messages import Draft, MessageLog, message_key, payload_digest
from storage.migrations import migrate
from storage.mongo import Mongo, create_collection

SENDERS = 256
ROOMS = 64
TEXT = "m" * 64
DATABASE = "bench"
PLAIN = "plain"


@dataclass(slots=True)
class Commits:
    """What one way of writing achieved; `mean_batch` in messages."""

    seconds: float
    mean_batch: float = 1.0
    latency: Histogram = field(default_factory=Histogram)

    @property
    def per_second(self) -> float:
        """Durable messages a second."""
        return self.latency.total / self.seconds


def _now() -> datetime:
    return datetime.now(UTC)


def _draft(sender: int, number: int) -> Draft:
    """Message `number` of a sender; senders are dealt out to the rooms."""
    room_id = f"bench-room-{sender % ROOMS:02}"
    return Draft(
        room_id=room_id,
        sender_id=f"bench-{sender}",
        client_id=f"{sender}-{number}",
        text=TEXT,
        reply_to=None,
        mentions=[],
        metadata={},
        digest=payload_digest([TEXT, None, [], {}]),
    )


async def _drive(seconds: float, write: Callable[[int, int], Awaitable[Any]]) -> Commits:
    """Let every sender write one message after the other for this long."""
    began = time.monotonic()
    commits = Commits(seconds)

    async def send(sender: int) -> None:
        for number in count():
            at = time.monotonic()
            if at - began >= seconds:
                return
            await write(sender, number)
            commits.latency.record(int((time.monotonic() - at) * 1e6))

    async with asyncio.TaskGroup() as group:
        for sender in range(SENDERS):
            group.create_task(send(sender))
    commits.seconds = time.monotonic() - began
    return commits


async def measure_commits(mongodb_url: str, seconds: float) -> tuple[Commits, Commits, str]:
    """Group commit and `insert_one`, each for `seconds`, majority and journal both, and MongoDB's version."""
    mongo = Mongo(mongodb_url, DATABASE)
    try:
        await migrate(mongo, now=_now)
        grouped = await _group_commit(mongo, seconds)
        plain = await _insert_one(mongo, seconds)
        version = (await mongo.database.command("buildInfo"))["version"]
        return grouped, plain, str(version)
    finally:
        await mongo.close()


async def _group_commit(mongo: Mongo, seconds: float) -> Commits:
    batches: list[int] = []
    log = MessageLog(mongo, _now, batches.append)
    try:
        commits = await _drive(seconds, lambda sender, number: log.append(_draft(sender, number)))
    finally:
        await log.close()
    commits.mean_batch = sum(batches) / max(1, len(batches))
    return commits


async def _insert_one(mongo: Mongo, seconds: float) -> Commits:
    """The same documents under the same indexes; the seqs are counted here, which only helps."""
    await create_collection(mongo, PLAIN, clusteredIndex={"key": {"_id": 1}, "unique": True})
    await mongo[PLAIN].create_index([("roomId", 1), ("senderId", 1), ("clientId", 1)], unique=True)
    seqs = [count(1) for _ in range(ROOMS)]

    async def insert(sender: int, number: int) -> None:
        draft = _draft(sender, number)
        seq = next(seqs[sender % ROOMS])
        document = {
            "_id": message_key(draft.room_id, seq),
            "roomId": draft.room_id,
            "seq": seq,
            "senderId": draft.sender_id,
            "clientId": draft.client_id,
            "digest": draft.digest,
            "text": draft.text,
            "replyTo": draft.reply_to,
            "mentions": draft.mentions,
            "metadata": draft.metadata,
            "createdAt": _now(),
        }
        await mongo[PLAIN].insert_one(document)

    return await _drive(seconds, insert)
