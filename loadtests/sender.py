"""A user who writes: a bounded number of messages under way, each sent until its fate is known."""

import asyncio
import time
from collections import deque

from loadtests.client import CallFailed, Connection, Reply
from loadtests.ledger import Ack, Inbox, Ledger
from loadtests.tally import Tally

BACKLOG_MAX = 1_000
"""Messages that may be due and unsent at once; beyond, a server that cannot follow would fill our memory."""
ACK_SECONDS = 10.0
"""Twice the server's deadline: after that an ack is not late but missing."""
RETRY_SECONDS = 0.2
"""Before an unknown outcome is tried again, when the server names no time."""


def now_us() -> int:
    """Microseconds on the machine's monotonic clock, which all processes of a run share."""
    return time.monotonic_ns() // 1000


def due_us(client_id: str) -> int:
    """When a message was due: the last part of its clientId."""
    return int(client_id[client_id.rindex("-") + 1 :], 16)


class Sender:
    """Sends for one user, `window` at once, the next one when an ack comes, or when `schedule` says so.

    A message keeps its clientId until it is acknowledged or refused for good; its latency counts from the moment it
    was due, so that a server which stalls is not flattered by a driver that waits.
    """

    def __init__(
        self, prefix: str, inbox: Inbox, ledger: Ledger, tally: Tally, *, window: int, text: str, paced: bool
    ) -> None:
        self._prefix = prefix
        self._inbox = inbox
        self._ledger = ledger
        self._tally = tally
        self._window = window
        self._text = text
        self._paced = paced
        self._due: deque[int] = deque()
        self._count = 0
        self._sending = False
        self._connection: Connection | None = None
        self.unacknowledged: dict[str, float] = {}
        """clientId to the time of the latest try, oldest message first."""

    def start(self) -> None:
        """Begin to send."""
        self._sending = True
        self._fill()

    def stop(self) -> None:
        """Make no new messages; those under way are still seen through."""
        self._sending = False
        self._due.clear()

    def schedule(self, due: int) -> None:
        """One more message is due at this time in µs."""
        if len(self._due) < BACKLOG_MAX:
            self._due.append(due)
            self._fill()
        else:
            self._tally.skipped += 1

    def attach(self, connection: Connection) -> None:
        """Go on over this connection; everything unacknowledged is sent again, in its order."""
        self._connection = connection
        for client_id in self.unacknowledged:
            self._transmit(client_id)
        self._fill()

    def detach(self) -> None:
        """The connection is gone."""
        self._connection = None

    def sweep(self, now: float) -> None:
        """Send again what was last tried more than ACK_SECONDS before `now`, seconds on the monotonic clock."""
        for client_id, tried_at in list(self.unacknowledged.items()):
            if self._connection is not None and now - tried_at > ACK_SECONDS:
                self._tally.errors["NO_ACK"] += 1
                self._transmit(client_id)

    def _fill(self) -> None:
        while self._sending and self._connection is not None and len(self.unacknowledged) < self._window:
            if self._paced and not self._due:
                return
            due = self._due.popleft() if self._paced else now_us()
            self._count += 1
            self._tally.sent += 1
            self._transmit(f"{self._prefix}-{self._count:x}-{due:x}")

    def _transmit(self, client_id: str) -> None:
        self.unacknowledged[client_id] = time.monotonic()
        if self._connection is not None:
            payload = {"roomId": self._inbox.room_id, "text": self._text, "clientId": client_id}
            self._connection.emit("message:send", payload, lambda reply: self._on_ack(client_id, reply))

    def _on_ack(self, client_id: str, reply: Reply) -> None:
        if reply.get("success") is True:
            ack = Ack(int(reply["seq"]), client_id, reply["duplicate"] is True)
            self._ledger.add_ack(self._inbox.room_id, ack)
            self._inbox.add_fetched(ack.seq)
            if self.unacknowledged.pop(client_id, None) is not None:
                self._tally.acked += 1
                self._tally.ack.record(now_us() - due_us(client_id))
        else:
            self._on_failure(client_id, CallFailed.from_wire(reply.get("error")))
        self._fill()

    def _on_failure(self, client_id: str, failure: CallFailed) -> None:
        self._tally.errors[failure.code] += 1
        if failure.retryable:
            wait = failure.retry_after or RETRY_SECONDS
            asyncio.get_running_loop().call_later(wait, self._retry, client_id)
        elif self.unacknowledged.pop(client_id, None) is not None:
            self._ledger.refused.add(client_id)

    def _retry(self, client_id: str) -> None:
        if client_id in self.unacknowledged:
            self._transmit(client_id)
