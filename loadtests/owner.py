"""The owner of a run's rooms: makes them before, and reads their histories back after."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from loadtests.client import CallFailed, Connection, Reply
from loadtests.ledger import Stored

CALLS_AT_ONCE = 32
READERS = 4
"""Connections that read histories: a connection's calls are answered one after the other."""
PAGE = 100
"""The most messages that `message:history` gives at once."""
TRIES_MAX = 20
RETRY_SECONDS = 0.5


class _Deaf:
    """The owner is a member of every room and must not be counted: it hears nothing."""

    def on_message(self, message: dict[str, Any]) -> None:
        pass


async def connect(url: str, token: str) -> Connection:
    """A connection of the owner. Raises CallFailed."""
    return await Connection.open(url, token, _Deaf())


async def _insist(connection: Connection, event: str, payload: dict[str, Any]) -> Reply:
    """Call until it succeeds, TRIES_MAX times at most, waiting as the server asks. Raises CallFailed."""
    for _ in range(TRIES_MAX - 1):
        try:
            return await connection.call(event, payload)
        except CallFailed as failure:
            if not failure.retryable or connection.closed.done():
                raise
            await asyncio.sleep(failure.retry_after or RETRY_SECONDS)
    return await connection.call(event, payload)


async def make_rooms(url: str, token: str, run: str, count: int) -> list[str]:
    """Make channels; returns their ids. Raises CallFailed."""
    connection = await connect(url, token)
    ids: list[str] = [""] * count
    numbers = iter(range(count))

    async def make() -> None:
        for number in numbers:
            payload = {"kind": "channel", "title": f"load {run} {number}", "clientId": f"{run}-{number}"}
            ids[number] = (await _insist(connection, "room:create", payload))["room"]["roomId"]

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(CALLS_AT_ONCE, count)):
                group.create_task(make())
    except* CallFailed as failures:
        raise failures.exceptions[0] from None
    finally:
        connection.close()
    return ids


async def read_histories(url: str, token: str, room_ids: Sequence[str]) -> dict[str, list[Stored] | None]:
    """Every message of these rooms, page by page, ascending; None for a room that could not be read."""
    histories: dict[str, list[Stored] | None] = dict.fromkeys(room_ids)
    remaining = iter(room_ids)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(READERS, len(room_ids))):
            group.create_task(_read_some(url, token, remaining, histories))
    return histories


async def _read_some(url: str, token: str, room_ids: Iterator[str], histories: dict[str, list[Stored] | None]) -> None:
    """Read rooms off the shared iterator; a room whose connection is lost is read once more over a new one."""
    connection: Connection | None = None
    for room_id in room_ids:
        for _ in range(2):
            try:
                if connection is None or connection.closed.done():
                    connection = await _reconnect(url, token)
                histories[room_id] = await _read_room(connection, room_id)
                break
            except CallFailed:
                continue
    if connection is not None:
        connection.close()


async def _reconnect(url: str, token: str) -> Connection:
    for _ in range(TRIES_MAX - 1):
        try:
            return await connect(url, token)
        except CallFailed as failure:
            if not failure.retryable:
                raise
            await asyncio.sleep(failure.retry_after or RETRY_SECONDS)
    return await connect(url, token)


async def _read_room(connection: Connection, room_id: str) -> list[Stored]:
    pages: list[list[Stored]] = []
    payload: dict[str, Any] = {"roomId": room_id, "limit": PAGE}
    more = True
    while more:
        reply = await _insist(connection, "message:history", payload)
        page = [Stored(int(message["seq"]), message["clientId"]) for message in reply["messages"]]
        if page and page[-1].seq >= payload.get("before", page[-1].seq + 1):
            raise CallFailed("PROTOCOL", "message:history does not keep to `before`", retryable=False)
        pages.append(page)
        more = reply["hasMore"] is True and bool(page)
        if more:
            payload["before"] = page[0].seq
    return [message for page in reversed(pages) for message in page]
