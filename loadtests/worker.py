"""One process' share of the chat scenario: its members and senders, and the phases it is led through."""

import asyncio
import contextlib
import random
import resource
import time
import traceback
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection as Pipe
from typing import Any

import uvloop

from loadtests.ledger import Inbox, Ledger
from loadtests.member import Member, Seat
from loadtests.orders import Comeback, Drained, Phase, Share
from loadtests.pool import Answer, Failure, Order, Progress
from loadtests.sender import Sender, now_us
from loadtests.tally import Tally

PROGRESS_SECONDS = 0.5
CONNECT_PHASE_SECONDS = 120.0
CONNECTS_PER_SECOND_MIN = 25
"""Whoever is not in its room after the former, or at this pace, is reported as absent; the run goes on without."""
COMEBACK_SECONDS = 120.0
"""How long a storm may last before those still away are reported as absent: six times what is asked of the server."""
DRAIN_SECONDS = 20.0
"""How long messages under way may take to be acknowledged, two tries and a reconnect included."""
SETTLE_SECONDS = 12.0
"""How long a delivery may take after its ack: twice what the contract allows for a gap, and some."""
POLL_SECONDS = 0.05
SWEEP_SECONDS = 1.0


def work(pipe: Pipe, share: Share) -> None:
    """The worker process: from the first order to the last. Its failures go to the parent as text."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        uvloop.run(Crew(pipe, share).run())
    except* (EOFError, BrokenPipeError):
        pass  # the parent is gone, and with it the reason to go on
    except* Exception as faults:
        pipe.send(Failure("".join(traceback.format_exception(faults))))


class Crew:
    """The members of one share. Orders: connect, send, drain, settle, end; drain may come while still connecting.

    Between send and drain also drop (body: the seconds within which all come back), stall, resume, calm (the senders'
    quiet phase goes on), leave, and flush, after which the parent knows all that was counted so far.
    """

    def __init__(self, pipe: Pipe, share: Share) -> None:
        self._pipe = pipe
        self._share = share
        self._phase = Phase.CONNECTING
        self._tally = Tally()
        self._ledger = Ledger()
        self._members: list[Member] = []
        self._senders: list[Sender] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._seconds: dict[str, float] = {}
        self._phase_began = time.monotonic()
        self._ramp = asyncio.Semaphore(share.ramp)

    async def run(self) -> None:
        """Follow orders until the last. Raises EOFError when the parent has died, and whatever a member raises."""
        async with asyncio.TaskGroup() as self._group:
            self._own(self._report())
            self._own(self._sweep())
            while (order := await asyncio.to_thread(self._pipe.recv)).name != "end":
                await self._follow(order)
            for task in self._tasks:
                task.cancel()

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.append(task)
        return task

    async def _follow(self, order: Order) -> None:
        match order.name:
            case "connect":
                self._connecting = self._own(self._connect())
            case "send":
                self._send()
            case "drop":
                self._own(self._drop(order.body))
            case "stall":
                self._enter(Phase.SLOW)
                self._answer(order.name, sum(member.stall() for member in self._members if member.slow))
            case "resume":
                self._enter(Phase.RESUMED)
                self._resume()
                self._answer(order.name)
            case "calm":
                self._enter(Phase.SENDING)
                self._answer(order.name)
            case "leave":
                self._leave()
                self._answer(order.name)
            case "flush":
                self._flush()
                self._answer(order.name)
            case "drain":
                self._connecting.cancel()
                await self._drain()
            case "settle":
                await self._settle(order.body)

    def _enter(self, phase: Phase) -> float:
        """Begin a phase; returns the seconds that the one before took."""
        self._flush()
        now = time.monotonic()
        seconds = now - self._phase_began
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + seconds
        self._phase, self._phase_began = phase, now
        return seconds

    async def _connect(self) -> None:
        self._enter(Phase.CONNECTING)
        for seat in self._share.seats:
            inbox = Inbox(seat.name, seat.room_id)
            self._ledger.inboxes.append(inbox)
            sender = self._sender(seat, inbox) if seat.sends else None
            self._members.append(Member(seat, inbox, self._tally, self._ramp, sender))
            self._own(self._members[-1].run())
        patience = CONNECT_PHASE_SECONDS + len(self._members) / CONNECTS_PER_SECOND_MIN
        await asyncio.wait([member.settled for member in self._members], timeout=patience)
        self._answer("connect", self._enter(Phase.WAITING))

    def _sender(self, seat: Seat, inbox: Inbox) -> Sender:
        paced, share = self._share.rate > 0, self._share
        sender = Sender(seat.name, inbox, self._ledger, self._tally, window=share.window, text=share.text, paced=paced)
        self._senders.append(sender)
        return sender

    def _send(self) -> None:
        self._enter(Phase.SENDING)
        for sender in self._senders:
            sender.start()
        if self._share.rate > 0 and self._senders:
            self._own(self._pace())

    async def _pace(self) -> None:
        """Give the senders their turns at the asked rate; a turn missed by a busy loop is made up at once."""
        began, interval, turn = now_us(), 1e6 / self._share.rate, 0
        while self._phase != Phase.DRAINING:
            while (due := began + int(turn * interval)) <= now_us():
                self._senders[turn % len(self._senders)].schedule(due)
                turn += 1
            await asyncio.sleep(max(0.001, (due - now_us()) / 1e6))

    async def _drop(self, spread_seconds: float) -> None:
        """Everybody loses the connection at once and comes back within the spread, however many that are at once."""
        self._enter(Phase.STORM)
        for _ in self._members:
            self._ramp.release()
        dropped = [member for member in self._members if member.drop(random.uniform(0, spread_seconds))]
        await self._poll(lambda: not any(member.away for member in dropped), COMEBACK_SECONDS)
        self._flush()
        self._answer("drop", Comeback(len(dropped), time.monotonic() - self._phase_began))

    def _resume(self) -> None:
        for member in self._members:
            member.resume()

    def _leave(self) -> None:
        """Everybody loses the connection at once for good; nothing more is asked of them."""
        self._enter(Phase.LEAVING)
        for member in self._members:
            member.leave()
        self._ledger.inboxes.clear()

    async def _drain(self) -> None:
        """Make no new messages and wait for the acks of those under way, and for those who are still away."""
        self._enter(Phase.DRAINING)
        for sender in self._senders:
            sender.stop()
        self._resume()

        def complete() -> bool:
            waiting = any(sender.unacknowledged for sender in self._senders)
            return not waiting and not any(member.away for member in self._members)

        await self._poll(complete, DRAIN_SECONDS)
        self._ledger.unacknowledged = sum(len(sender.unacknowledged) for sender in self._senders)
        self._flush()
        self._answer("drain", Drained(self._seconds, self._ledger.last_seqs()))

    async def _settle(self, last_seqs: dict[str, int]) -> None:
        """Wait until every member has its room up to the last acknowledged seq."""
        open_inboxes = [member.inbox for member in self._members]

        def complete() -> bool:
            open_inboxes[:] = [box for box in open_inboxes if box.seen() < last_seqs.get(box.room_id, 0)]
            return not open_inboxes

        await self._poll(complete, SETTLE_SECONDS)
        self._flush()
        self._answer("settle", self._ledger)

    async def _poll(self, condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        # The condition is over thousands of members: there is no one event to wait for.
        while not condition() and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)

    async def _report(self) -> None:
        while True:
            # At full half seconds, so that the reports of all workers are of the same ones.
            await asyncio.sleep(PROGRESS_SECONDS - time.monotonic() % PROGRESS_SECONDS)
            self._flush()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for member in self._members:
                member.sweep()

    def _flush(self) -> None:
        self._pipe.send(Progress(self._phase, self._tally.take(), time.monotonic() - PROGRESS_SECONDS / 2))

    def _answer(self, order: str, body: object = None) -> None:
        self._pipe.send(Answer(order, body))
