"""One simulated user: stays connected, is in its room, catches up after a loss, drops or stalls when told to."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loadtests.client import CallFailed, Connection
from loadtests.ledger import Inbox
from loadtests.recovery import Session
from loadtests.sender import Sender, due_us, now_us
from loadtests.tally import Tally

BACKOFF_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 3.0
SYNC_PAGE = 500
"""The most messages a room that `message:sync` takes as limit."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Who a member is and where it goes: user name, token, server, room, whether it sends, whether it is to stall."""

    name: str
    token: str
    url: str
    room_id: str
    sends: bool
    slow: bool = False


class Member:
    """Connects, joins, listens, and reconnects until `run` is cancelled or the server refuses for good.

    After the first connection the user is a member for the rest of the run: a reconnect does not join again, it offers
    the session it had for recovery, asks `message:sync` for what was missed when that is not granted, and its sender
    sends again what is unacknowledged.
    """

    def __init__(self, seat: Seat, inbox: Inbox, tally: Tally, ramp: asyncio.Semaphore, sender: Sender | None) -> None:
        self.inbox = inbox
        self.settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Ends with True at the first time in the room, with False when the server has refused for good."""
        self.away = False
        """Whether it was dropped and is not served again yet."""
        self._seat = seat
        self._tally = tally
        self._ramp = ramp
        self._sender = sender
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._absence_seconds: float | None = None
        self._back_since = 0
        self._stalled = False
        self._leaving = False
        self._prefix = seat.name[: seat.name.rindex("-") + 1]

    async def run(self) -> None:
        """Stay in the room. Returns only when refused or told to leave; cancelling it closes the connection."""
        failures = 0
        while True:
            try:
                await self._visit()
            except CallFailed as failure:
                failures = 1 if self.inbox.connected else failures + 1
                if self.inbox.connected:
                    self._tally.connected -= 1
                self.inbox.connected = False
                if self._leaving:
                    return
                if self._absence_seconds is not None:
                    failures, absence, self._absence_seconds = 0, self._absence_seconds, None
                    await asyncio.sleep(absence)
                    self._back_since = now_us()
                    continue
                self._tally.errors[failure.code] += 1
                if not failure.retryable:
                    self.away = False
                    if not self.settled.done():
                        self.settled.set_result(False)
                    return
                # Jitter as the stock clients have it, or all that were refused at once would be back at once.
                backoff = min(BACKOFF_SECONDS * 2 ** min(failures, 10), BACKOFF_MAX_SECONDS)
                await asyncio.sleep(max(failure.retry_after, backoff) * random.uniform(1.0, 1.5))

    def drop(self, absence_seconds: float) -> bool:
        """Lose the connection and come back so much later; False, and nothing happens, when there is none."""
        if self._connection is None:
            return False
        self.away = True
        self._absence_seconds = absence_seconds
        self._connection.close()
        return True

    def leave(self) -> None:
        """Lose the connection and stay away."""
        self._leaving = True
        if self._connection is not None:
            self._connection.close()

    @property
    def slow(self) -> bool:
        """Whether it is among those who are to stall."""
        return self._seat.slow

    def stall(self) -> bool:
        """Read nothing more until `resume`; False, and nothing happens, when there is no connection."""
        if self._connection is None:
            return False
        self._stalled = True
        self._connection.pause()
        return True

    def resume(self) -> None:
        """Read on. How late things were meanwhile is this client's own fault and is not recorded."""
        if self._connection is not None:
            self._connection.resume()

    async def _visit(self) -> None:
        """One connection, from its handshake to its end, which is raised as CallFailed."""
        connection: Connection | None = None
        self.inbox.open_connection()
        try:
            async with self._ramp:
                connection = await Connection.open(self._seat.url, self._seat.token, self, self._session)
                self._session = connection.session
                if self.inbox.floor is None:
                    reply = await connection.call("room:join", {"roomId": self._seat.room_id})
                    self.inbox.floor = int(reply["room"]["lastSeq"])
                    self._tally.joined += 1
                else:
                    self._tally.recovered += connection.recovered
                    if not connection.recovered:
                        await self._catch_up(connection)
                    self._tally.reconnects += 1
            self._be_served(connection)
            raise await asyncio.shield(connection.closed)
        finally:
            if self._sender is not None:
                self._sender.detach()
            self._connection = None
            if connection is not None:
                connection.close()
                with suppress(asyncio.CancelledError):
                    await connection.closed

    def _be_served(self, connection: Connection) -> None:
        """Connected, in the room, with nothing missed."""
        self._connection = connection
        self._stalled = False
        self.inbox.connected = True
        self._tally.connected += 1
        if self.away:
            self.away = False
            self._tally.back.record(now_us() - self._back_since)
        if not self.settled.done():
            self.settled.set_result(True)
        if self._sender is not None:
            self._sender.attach(connection)
        if self._leaving:
            connection.close()

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
        if self._connection is not None and not self._stalled:
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
        if not self._stalled and isinstance(client_id, str) and client_id.startswith(self._prefix):
            self._tally.delivery.record(now_us() - due_us(client_id))
