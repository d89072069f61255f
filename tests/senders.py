"""Senders at full speed, readers that keep what came, and the log as it is stored: what durability is judged by."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

from pymongo import AsyncMongoClient

from loadtests.client import CallFailed, Connection
from tests.nodes import Node

WINDOW = 8
PAUSE_SECONDS = 0.05
POLL_SECONDS = 0.02
RESEND_SECONDS = 30.0


async def until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Wait for a condition, not longer than `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"did not come to be: {what}")
        await asyncio.sleep(POLL_SECONDS)


class Reader:
    """A device that only listens: the seqs it was sent, by room, in the order of arrival."""

    def __init__(self) -> None:
        self.seqs: dict[str, list[int]] = {}
        self.connection: Connection | None = None

    def on_message(self, message: dict[str, Any]) -> None:
        """A live message has come."""
        self.seqs.setdefault(message["roomId"], []).append(message["seq"])

    async def open(self, node: Node, user_id: str) -> "Reader":
        """Connect to a node."""
        self.connection = await Connection.open(node.url, node.token(user_id), self)
        return self

    def close(self) -> None:
        """Disconnect."""
        if self.connection is not None:
            self.connection.close()


class Sender(Reader):
    """A device that keeps WINDOW sends to one room under way, each with a clientId of its own.

    `acks` are the successful ones by clientId; `unknown` are the clientIds whose outcome it does not know.
    """

    def __init__(self, user_id: str, room_id: str) -> None:
        super().__init__()
        self.user_id = user_id
        self.room_id = room_id
        self.acks: dict[str, dict[str, Any]] = {}
        self.unknown: set[str] = set()
        self.failures: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._stopping = False

    async def run(self, node: Node, count: int | None = None) -> None:
        """Send until `count` are sent, `stop` is called or the connection is lost."""
        await self.open(node, self.user_id)
        remaining = iter(range(count)) if count is not None else itertools.count()
        await asyncio.gather(*(self._work(remaining) for _ in range(WINDOW)))
        self.close()

    def stop(self) -> None:
        """Send no more; what is under way is waited for."""
        self._stopping = True

    async def _work(self, remaining: Iterable[int]) -> None:
        for _ in remaining:
            client_id = f"{self.user_id}/{next(self._numbers)}"
            self.unknown.add(client_id)
            await self._send(client_id)
            if self._stopping or self.connection is None or self.connection.closed.done():
                return

    async def _send(self, client_id: str) -> None:
        assert self.connection is not None
        payload = {"roomId": self.room_id, "text": f"text of {client_id}", "clientId": client_id}
        try:
            self.acks[client_id] = await self.connection.call("message:send", payload)
            self.unknown.discard(client_id)
        except CallFailed as failure:
            if not failure.retryable:
                raise
            self.failures[failure.code] = self.failures.get(failure.code, 0) + 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def resend(self, node: Node) -> None:
        """Send what is unknown again, with the same clientIds, until every one of them is acknowledged."""
        await self.open(node, self.user_id)
        async with asyncio.timeout(RESEND_SECONDS):
            while self.unknown:
                await asyncio.gather(*(self._send(client_id) for client_id in list(self.unknown)[:WINDOW]))
        self.close()


async def make_room(node: Node, owner: str, member_ids: Iterable[str] = (), kind: str = "group") -> str:
    """A room of these people; returns its id."""
    device = await Reader().open(node, owner)
    assert device.connection is not None
    room = await device.connection.call("room:create", {"kind": kind, "memberIds": list(member_ids)})
    device.close()
    return str(room["room"]["roomId"])


async def stored_log(mongodb_url: str, database: str, room_id: str) -> list[dict[str, Any]]:
    """A room's messages as they lie in the store, ascending."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url, readConcernLevel="majority")
    async with client:
        return await client[database]["messages"].find({"roomId": room_id}).sort("_id", 1).to_list(None)


def check_log(log: list[dict[str, Any]], senders: Iterable[Sender]) -> None:
    """Every acknowledged message is in the log once, where its ack said; seqs are contiguous from 1."""
    assert [document["seq"] for document in log] == list(range(1, len(log) + 1))
    keys = [(document["senderId"], document["clientId"]) for document in log]
    assert len(set(keys)) == len(keys), "a message is stored twice"
    seqs = {key: document["seq"] for key, document in zip(keys, log, strict=True)}
    for sender in senders:
        for client_id, ack in sender.acks.items():
            assert seqs.get((sender.user_id, client_id)) == ack["seq"], f"{client_id} was acknowledged and is not there"
