"""One simulated user: stays connected, is in its room, catches up after a loss."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loadtests.client import CallFailed, Connection
from loadtests.ledger import Inbox
from loadtests.sender import Sender, due_us, now_us
from loadtests.tally import Tally

BACKOFF_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 3.0
SYNC_PAGE = 500
"""The most messages a room that `message:sync` takes as limit."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Who a member is and where it goes: user name, token, server, room, whether it sends."""

    name: str
    token: str
    url: str
    room_id: str
    sends: bool


class Member:
    """Connects, joins, listens, and reconnects until `run` is cancelled or the server refuses for good.

    After the first connection the user is a member for the rest of the run: a reconnect does not join again, it asks
    `message:sync` for what was missed, and its sender sends again what is unacknowledged.
    """

    def __init__(self, seat: Seat, inbox: Inbox, tally: Tally, ramp: asyncio.Semaphore, sender: Sender | None) -> None:
        self.inbox = inbox
        self.settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Ends with True at the first time in the room, with False when the server has refused for good."""
        self._seat = seat
        self._tally = tally
        self._ramp = ramp
        self._sender = sender
        self._connection: Connection | None = None
        self._prefix = seat.name[: seat.name.rindex("-") + 1]

    async def run(self) -> None:
        """Stay in the room. Returns only when refused; cancelling it closes the connection."""
        failures = 0
        while True:
            try:
                await self._visit()
            except CallFailed as failure:
                failures = 1 if self.inbox.connected else failures + 1
                if self.inbox.connected:
                    self._tally.connected -= 1
                self.inbox.connected = False
                self._tally.errors[failure.code] += 1
                if not failure.retryable:
                    if not self.settled.done():
                        self.settled.set_result(False)
                    return
                backoff = min(BACKOFF_SECONDS * 2 ** min(failures, 10), BACKOFF_MAX_SECONDS)
                await asyncio.sleep(max(failure.retry_after, backoff))

    async def _visit(self) -> None:
        """One connection, from its handshake to its end, which is raised as CallFailed."""
        connection: Connection | None = None
        self.inbox.open_connection()
        try:
            async with self._ramp:
                connection = await Connection.open(self._seat.url, self._seat.token, self)
                if self.inbox.floor is None:
                    reply = await connection.call("room:join", {"roomId": self._seat.room_id})
                    self.inbox.floor = int(reply["room"]["lastSeq"])
                    self._tally.joined += 1
                else:
                    await self._catch_up(connection)
                    self._tally.reconnects += 1
            self._connection = connection
            self.inbox.connected = True
            self._tally.connected += 1
            if not self.settled.done():
                self.settled.set_result(True)
            if self._sender is not None:
                self._sender.attach(connection)
            raise await asyncio.shield(connection.closed)
        finally:
            if self._sender is not None:
                self._sender.detach()
            self._connection = None
            if connection is not None:
                connection.close()
                with suppress(asyncio.CancelledError):
                    await connection.closed

    async def _catch_up(self, connection: Connection) -> None:
        room_id = self._seat.room_id
        seen, more = self.inbox.seen(), True
        while more:
            reply = await connection.call("message:sync", {"rooms": {room_id: seen}, "limit": SYNC_PAGE})
            room = reply["rooms"][room_id]
            if room.get("gone") or room.get("reset"):
                # The verdict will show what that has cost; here it is only named.
                self._tally.errors["SYNC_GONE" if room.get("gone") else "SYNC_RESET"] += 1
                return
            for message in room["messages"]:
                seen = int(message["seq"])
                self.inbox.add_fetched(seen)
            more = room["hasMore"] is True and bool(room["messages"])

    def sweep(self) -> None:
        """Look for what no event tells: a server gone silent, acks that do not come; to be called every second."""
        if self._connection is not None:
            self._connection.check_pings()
        if self._sender is not None:
            self._sender.sweep(time.monotonic())

    def on_message(self, message: dict[str, Any]) -> None:
        """Enter a live message; one of another room or another run is none of ours."""
        if message["roomId"] != self.inbox.room_id:
            return
        self.inbox.add_live(message["seq"])
        self._tally.delivered += 1
        client_id = message["clientId"]
        if isinstance(client_id, str) and client_id.startswith(self._prefix):
            self._tally.delivery.record(now_us() - due_us(client_id))
