"""What a client reads on opening: its list of 500 rooms, and pages of a long history, on a warm database.

    python -m loadtests.reads [--rooms 500] [--messages 1000000] [--calls 300]

It fills a database of its own, starts a server on it, and makes the calls one after the other over one connection.
"""

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from loadtests.client import Connection
from loadtests.latency import Histogram
from loadtests.node import running_node
from loadtests.tokens import sign_tokens
from protocol.types import RoomKind
from server.embedded import EmbeddedServers
from storage.messages import message_key
from storage.migrations import migrate
from storage.mongo import Mongo
from storage.rooms import NewRoom, RoomStore

DATABASE = "parley"
READER = "reader"
OTHERS = [f"writer-{number}" for number in range(9)]
SHORT_ROOM_MESSAGES = 20
INSERT_CHUNK = 10_000
TEXT = "m" * 64
PAGE = 50


class Reads(NamedTuple):
    """The latencies of one kind of call, its first one apart: it finds nothing in memory."""

    first_ms: float
    rest: Histogram


def _now() -> datetime:
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _messages(room_id: str, count: int, began: datetime) -> Iterator[dict[str, Any]]:
    for seq in range(1, count + 1):
        yield {
            "_id": message_key(room_id, seq),
            "roomId": room_id,
            "seq": seq,
            "senderId": OTHERS[seq % len(OTHERS)],
            "clientId": f"{seq}",
            "digest": b"0" * 16,
            "text": TEXT,
            "replyTo": None,
            "mentions": [READER] if seq % 50 == 0 else [],
            "metadata": {},
            "createdAt": began + timedelta(milliseconds=seq),
        }


async def _fill(mongodb_url: str, rooms: int, messages: int) -> str:
    """Rooms of the reader with some messages each, one of them long; returns that one's id."""
    mongo = Mongo(mongodb_url, DATABASE)
    store = RoomStore(mongo, _now)
    try:
        await migrate(mongo, now=_now)
        long_room = ""
        for number in range(rooms):
            new = NewRoom(RoomKind.GROUP, READER, OTHERS, f"Room {number}", {}, None, None)
            record, _ = await store.create(new)
            long_room = long_room or record.id
            waiting: list[dict[str, Any]] = []
            for document in _messages(record.id, messages if number == 0 else SHORT_ROOM_MESSAGES, _now()):
                waiting.append(document)
                if len(waiting) == INSERT_CHUNK:
                    await mongo["messages"].insert_many(waiting, ordered=False)
                    waiting = []
            if waiting:
                await mongo["messages"].insert_many(waiting, ordered=False)
        return long_room
    finally:
        await store.close()
        await mongo.close()


class _Deaf:
    """Hears live messages, and lets them pass."""

    def on_message(self, message: dict[str, Any]) -> None:
        """Nothing is done with it."""


async def _time(connection: Connection, event: str, payloads: Sequence[dict[str, Any]]) -> Reads:
    first_ms, rest = 0.0, Histogram()
    for number, payload in enumerate(payloads):
        began = time.perf_counter()
        await connection.call(event, payload)
        seconds = time.perf_counter() - began
        if number:
            rest.record(int(seconds * 1e6))
        else:
            first_ms = seconds * 1000
    return Reads(first_ms, rest)


@asynccontextmanager
async def _connected(url: str, secret: str) -> AsyncIterator[tuple[Connection, float]]:
    """The reader's connection, and how long its handshake took, in ms."""
    began = time.perf_counter()
    connection = await Connection.open(url, sign_tokens([READER], secret)[0], _Deaf())
    try:
        yield connection, (time.perf_counter() - began) * 1000
    finally:
        connection.close()


async def measure_reads(rooms: int, messages: int, calls: int) -> dict[str, Reads]:
    """Latencies of the reader's calls and handshakes. Raises EmbeddedError, NodeFailed or CallFailed."""
    secret = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="parley-reads-") as scratch:
        stores = EmbeddedServers(Path(scratch), mongodb=True, redis=False)
        await stores.start()
        try:
            long_room = await _fill(stores.mongodb_url, rooms, messages)
        finally:
            await stores.stop()
        async with running_node(Path(scratch), secret) as url:
            pages = [
                {"roomId": long_room, "limit": PAGE, "before": random.randint(PAGE, messages)} for _ in range(calls)
            ]
            async with _connected(url, secret) as (connection, first):
                listed = await _time(connection, "room:list", [{"limit": 500}] * calls)
                paged = await _time(connection, "message:history", pages)
                handshakes = Reads(first, Histogram())
                for _ in range(min(calls, 50)):
                    async with _connected(url, secret) as (_, again):
                        handshakes.rest.record(int(again * 1000))
    return {
        f"room:list, {rooms} rooms": listed,
        f"message:history, {messages:,} messages": paged,
        f"handshake, {rooms} rooms": handshakes,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.reads", description="Measures reads on this machine.")
    parser.add_argument("--rooms", type=int, default=500)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args(arguments)
    if min(options.rooms, options.calls) < 1 or options.messages < PAGE:
        parser.error("takes at least 1 room, 1 call and 50 messages")
    figures = uvloop.run(measure_reads(options.rooms, options.messages, options.calls))
    for name, reads in figures.items():
        shown = ", ".join(f"{label} {value:.1f} ms" for label, value in reads.rest.milliseconds().items())
        print(f"{name}: first {reads.first_ms:.1f} ms, then {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
