"""The chat scenario: users in rooms, some of them writing, and a check that every promise of an ack was kept."""

import asyncio
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loadtests.ledger import Ledger, Verdict, judge
from loadtests.member import Seat
from loadtests.owner import make_rooms, read_histories
from loadtests.pool import Pool, Progress
from loadtests.report import Live
from loadtests.tally import Tally
from loadtests.worker import Drained, Phase, Share, work


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `rate` in messages/s over all senders, 0 for as fast as acks come; `payload` in characters."""

    connections: int
    rooms: int
    senders: int
    seconds: float
    urls: tuple[str, ...] = ("http://127.0.0.1:3000",)
    processes: int = 1
    rate: float = 0.0
    window: int = 1
    payload: int = 64
    ramp: int = 100


@dataclass(slots=True)
class Outcome:
    """What came of a run. `connect_seconds` and `send_seconds` are those of the slowest worker."""

    plan: Plan
    run: str
    connect_seconds: float = 0.0
    send_seconds: float = 0.0
    interrupted: bool = False
    phases: dict[str, Tally] = field(default_factory=lambda: {phase.value: Tally() for phase in Phase})
    unacknowledged: int = 0
    verdict: Verdict | None = None
    """None when the run ended before there was anything to judge."""

    def total(self) -> Tally:
        """Over all phases."""
        total = Tally()
        for tally in self.phases.values():
            total.add(tally)
        return total


def new_run() -> str:
    """A name for a run, part of its user ids: no two runs share users."""
    return secrets.token_hex(4)


def user_ids(run: str, plan: Plan) -> list[str]:
    """The owner first, then one user a connection."""
    return [f"load-{run}-owner", *(f"load-{run}-{number}" for number in range(plan.connections))]


async def run_chat(plan: Plan, run: str, tokens: Sequence[str], live: Live) -> Outcome:
    """Make the rooms, connect, send, settle, judge. `tokens` belong to `user_ids`.

    The first Ctrl-C ends the phase under way and goes on to the verdict, the second one ends the program.
    Raises CallFailed when the server is not there or makes no rooms, WorkerFailed when a worker dies.
    """
    outcome = Outcome(plan, run)
    owner, *members = tokens
    with _interruptible() as stop:
        live.say(f"making {plan.rooms:,} rooms")
        rooms = await make_rooms(plan.urls[0], owner, run, plan.rooms)

        def on_progress(progress: Progress) -> None:
            outcome.phases[progress.phase].add(progress.body)
            live.show(progress.phase, progress.body)

        pool = Pool(work, deal(plan, user_ids(run, plan)[1:], members, rooms), on_progress)
        try:
            pool.start()
            ledger = await _lead(pool, outcome, stop)
        except BaseException:
            pool.kill()
            raise
        finally:
            await pool.close()
        if ledger is None:
            return outcome
        live.say("reading the histories back")
        histories = await read_histories(plan.urls[0], owner, rooms)
    outcome.unacknowledged = ledger.unacknowledged
    outcome.verdict = judge(ledger, histories, expect_acks=plan.senders > 0)
    return outcome


async def _lead(pool: Pool, outcome: Outcome, stop: asyncio.Event) -> Ledger | None:
    """Take the workers through the phases; None when stopped before anything was sent."""
    pool.tell("connect")
    connecting = asyncio.create_task(pool.answers("connect"))
    await _first_of(pool, stop, connecting)
    if stop.is_set():
        connecting.cancel()
        outcome.interrupted = True
        return None
    outcome.connect_seconds = max(connecting.result())
    pool.tell("send")
    await _first_of(pool, stop, asyncio.create_task(asyncio.sleep(outcome.plan.seconds)))
    outcome.interrupted = stop.is_set()
    pool.tell("drain")
    last_seqs: dict[str, int] = {}
    for drained in await pool.answers("drain"):
        _note_drained(drained, outcome, last_seqs)
    pool.tell("settle", last_seqs)
    ledger = Ledger()
    for part in await pool.answers("settle"):
        ledger.merge(part)
    return ledger


def _note_drained(drained: Drained, outcome: Outcome, last_seqs: dict[str, int]) -> None:
    outcome.send_seconds = max(outcome.send_seconds, drained.seconds)
    for room_id, seq in drained.last_seqs.items():
        last_seqs[room_id] = max(seq, last_seqs.get(room_id, 0))


async def _first_of(pool: Pool, stop: asyncio.Event, work: asyncio.Task[Any]) -> None:
    """Wait for the work, or for Ctrl-C. Raises WorkerFailed, and what the work raises."""
    stopped = asyncio.create_task(stop.wait())
    try:
        waits: list[asyncio.Future[Any]] = [work, stopped, pool.failed]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if pool.failed.done():
            raise pool.failed.result()
        if work.done():
            work.result()
    finally:
        stopped.cancel()
        if not work.done():
            work.cancel()


@contextmanager
def _interruptible() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C sets; the second one is an ordinary KeyboardInterrupt."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def deal(plan: Plan, names: Sequence[str], tokens: Sequence[str], rooms: Sequence[str]) -> list[Share]:
    """Deal the users out to the processes like cards, so that senders and rooms spread evenly."""
    seats = [
        Seat(name, token, plan.urls[i % len(plan.urls)], rooms[i % len(rooms)], sends=i < plan.senders)
        for i, (name, token) in enumerate(zip(names, tokens, strict=True))
    ]
    shares = []
    for number in range(plan.processes):
        dealt = seats[number :: plan.processes]
        rate = plan.rate * sum(seat.sends for seat in dealt) / max(1, plan.senders)
        ramp = max(1, plan.ramp // plan.processes)
        shares.append(Share(dealt, ramp, plan.window, rate, "m" * plan.payload))
    return shares
