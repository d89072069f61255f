"""A run: users in rooms, some of them writing, a scenario's course, a check that every promise of an ack was kept."""

import math
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.courses import write
from loadtests.ledger import Ledger, Verdict, judge
from loadtests.member import Seat
from loadtests.orders import Drained, Phase, Share
from loadtests.owner import make_rooms, read_histories
from loadtests.pool import Pool, Progress
from loadtests.report import Live
from loadtests.stage import Course, Finding, Stage, Stopped, interruptible
from loadtests.tally import Tally
from loadtests.timeline import Timeline
from loadtests.watch import Gauges, Watch
from loadtests.worker import work


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `rate` in messages/s over all senders, 0 for as fast as acks come; `payload` in characters.

    The last fields are for single scenarios: within how many seconds all come back (`spread`), how many in a hundred
    stop reading (`slow`), whether the receivers are on other nodes than the senders (`apart`), how many nodes.
    """

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
    spread: float = 1.0
    slow: float = 0.0
    nodes: int = 2
    apart: bool = False


@dataclass(slots=True)
class Outcome:
    """What came of a run. `connect_seconds` and `send_seconds` are those of the slowest worker.

    `gauges` are the servers' before the first user connected, before the course and after it, as far as they show any.
    """

    plan: Plan
    run: str
    connect_seconds: float = 0.0
    send_seconds: float = 0.0
    interrupted: bool = False
    phases: dict[str, Tally] = field(default_factory=lambda: {phase.value: Tally() for phase in Phase})
    timeline: Timeline = field(default_factory=Timeline)
    gauges: list[Gauges | None] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    breaches: Counter[str] = field(default_factory=Counter)
    """What a course found wrong; it goes into the verdict."""
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


async def run_chat(plan: Plan, run: str, tokens: Sequence[str], live: Live, course: Course = write) -> Outcome:
    """Make the rooms, connect, run the course, settle, judge. `tokens` belong to `user_ids`.

    The first Ctrl-C ends the phase under way and goes on to the verdict, the second one ends the program.
    Raises CallFailed when the server is not there or makes no rooms, WorkerFailed when a worker dies.
    """
    outcome = Outcome(plan, run)
    owner, *members = tokens
    with interruptible() as stop:
        live.say(f"making {plan.rooms:,} rooms")
        rooms = await make_rooms(plan.urls[0], owner, run, plan.rooms)

        def on_progress(progress: Progress) -> None:
            outcome.phases[progress.phase].add(progress.body)
            outcome.timeline.add(progress.phase, progress.body, progress.at)
            live.show(progress.phase, progress.body)

        pool = Pool(work, deal(plan, user_ids(run, plan)[1:], members, rooms), on_progress)
        try:
            pool.start()
            async with Watch(plan.urls) as watch:
                ledger = await _lead(pool, Stage(pool, outcome, stop, watch), course)
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
    for kind, count in outcome.breaches.items():
        outcome.verdict.add(kind, [], count)
    return outcome


async def _lead(pool: Pool, stage: Stage, course: Course) -> Ledger | None:
    """Take the workers through the phases; None when stopped before anything was sent."""
    outcome, watch, began = stage.outcome, stage.watch, time.monotonic()
    stage.start = await watch.read()
    outcome.gauges.append(stage.start)
    try:
        outcome.connect_seconds = max(await stage.ask("connect"))
    except Stopped:
        outcome.connect_seconds, outcome.interrupted = time.monotonic() - began, True
        return None
    outcome.gauges.append(await watch.read())
    pool.tell("send")
    try:
        await course(stage)
    except Stopped:
        outcome.interrupted = True
    outcome.gauges.append(await watch.read())
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
    outcome.send_seconds = max(outcome.send_seconds, drained.seconds.get(Phase.SENDING, 0.0))
    for room_id, seq in drained.last_seqs.items():
        last_seqs[room_id] = max(seq, last_seqs.get(room_id, 0))


def deal(plan: Plan, names: Sequence[str], tokens: Sequence[str], rooms: Sequence[str]) -> list[Share]:
    """Deal the users out to the processes like cards, so that senders and rooms spread evenly.

    The slow ones are the last: they are not to be senders.
    """
    first_slow = len(names) - math.ceil(len(names) * plan.slow / 100)
    seats = [
        Seat(
            name, token, plan.urls[_node(plan, i)], rooms[i % len(rooms)], sends=i < plan.senders, slow=i >= first_slow
        )
        for i, (name, token) in enumerate(zip(names, tokens, strict=True))
    ]
    shares = []
    for number in range(plan.processes):
        dealt = seats[number :: plan.processes]
        rate = plan.rate * sum(seat.sends for seat in dealt) / max(1, plan.senders)
        ramp = max(1, plan.ramp // plan.processes)
        shares.append(Share(dealt, ramp, plan.window, rate, "m" * plan.payload))
    return shares


def _node(plan: Plan, user: int) -> int:
    """On which of the servers a user is: a room's members on different ones, senders apart if that is asked for."""
    nodes, (number_in_room, room) = len(plan.urls), divmod(user, plan.rooms)
    if not plan.apart or nodes == 1:
        return (room + number_in_room) % nodes
    return (room if user < plan.senders else room + 1 + number_in_room % (nodes - 1)) % nodes
