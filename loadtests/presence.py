"""The presence scenario: everybody online watches others; half of them blink, change their status, and leave.

    python -m loadtests.presence --users 10000 --watchers 50 [--url URL --secret SECRET]

Without --url it starts a server of its own. Exit status 1 when somebody was shown offline who had come back, was told
of one user twice within a second, or the server's loop was held up.
"""

import argparse
import asyncio
import contextlib
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import uvloop

from loadtests.client import CallFailed, Connection
from loadtests.node import NodeFailed, running_node
from loadtests.pool import Pool, WorkerFailed
from loadtests.scrape import Server, look_at
from loadtests.tokens import sign_tokens
from loadtests.watchers import GRACE_SECONDS, Groups, Person, Told, work

WATCHERS_MAX = 200
"""A group is one room, made with all its members."""
BLINK_SECONDS, FLAP_SECONDS, LEAVE_SECONDS = 0.5, 3.0, GRACE_SECONDS + 3
LAG_MAX_SECONDS = 0.1
MAKING_AT_ONCE = 16
PHASES = {"connect": None, "watch": None, "blink": BLINK_SECONDS, "flap": FLAP_SECONDS, "leave": LEAVE_SECONDS}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: so many users, each watched by so many others."""

    users: int
    watchers: int
    processes: int = 2
    phases: tuple[str, ...] = tuple(PHASES)


class Row(NamedTuple):
    """What came of one phase."""

    phase: str
    told: Told
    before: Server
    after: Server
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether all promises were kept; of the loop's only once everybody is there."""
        held_up = self.phase != "connect" and self.after.worst_lag(self.before) > LAG_MAX_SECONDS
        return not (self.told.wrongly_offline or self.told.close_by or self.told.failures or held_up)


async def run_presence(plan: Plan, url: str, secret: str) -> list[Row]:
    """Make the groups and take them through the phases. Raises CallFailed, WorkerFailed or aiohttp's errors."""
    groups = _groups(plan, secret)
    making = asyncio.Semaphore(MAKING_AT_ONCE)
    await asyncio.gather(*(_make_room(url, group, making) for group in groups))
    shares = [Groups(url, groups[number :: plan.processes]) for number in range(plan.processes)]
    pool = Pool(work, shares, lambda progress: None)
    rows = []
    try:
        pool.start()
        for phase in plan.phases:
            rows.append(await _phase(pool, url, phase, PHASES[phase]))
            print(_line(rows[-1]), file=sys.stderr)
    finally:
        await pool.close()
    return rows


async def _phase(pool: Pool, url: str, phase: str, seconds: float | None) -> Row:
    loop = asyncio.get_running_loop()
    before, began, told = await look_at(url), loop.time(), Told()
    pool.tell(phase, seconds)
    for one in await pool.answers(phase):
        told.add(one)
    return Row(phase, told, before, await look_at(url), loop.time() - began)


def _groups(plan: Plan, secret: str) -> list[list[Person]]:
    run = secrets.token_hex(4)
    ids = [f"watch-{run}-{number}" for number in range(plan.users)]
    people = [Person(name, token) for name, token in zip(ids, sign_tokens(ids, secret), strict=True)]
    size = plan.watchers + 1
    return [people[start : start + size] for start in range(0, len(people), size)]


class _Deaf:
    """Whoever makes a room has nothing to hear."""

    def on_message(self, message: dict[str, object]) -> None:
        pass


async def _make_room(url: str, group: Sequence[Person], making: asyncio.Semaphore) -> None:
    async with making:
        connection = await Connection.open(url, group[0].token, _Deaf())
        try:
            members = [person.user_id for person in group[1:]]
            await connection.call("room:create", {"kind": "group", "memberIds": members})
        finally:
            connection.close()


def _line(row: Row) -> str:
    told, events = row.told, sum(row.told.events.values())
    away = f", away {max(told.away):.1f} s at most" if told.away else ""
    late = sum(seconds >= GRACE_SECONDS for seconds in told.away)
    return (
        f"{row.phase:8} {row.seconds:5.1f} s, {events:,} events {dict(told.events)}{away}, {late} after the grace, "
        f"{told.wrongly_offline} wrongly offline, {told.close_by} within a second, failures {dict(told.failures)}; "
        f"loop at most {row.after.worst_lag(row.before) * 1000:g} ms late, "
        f"{row.after.cpu_seconds - row.before.cpu_seconds:.1f} s CPU, {row.after.resident_bytes / 1e6:.0f} MB"
        f"{'' if row.clean else '  NOT CLEAN'}"
    )


@contextlib.asynccontextmanager
async def _server(url: str | None, secret: str | None) -> AsyncIterator[tuple[str, str]]:
    if url is not None and secret is not None:
        yield url, secret
        return
    own = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="parley-presence-") as scratch:
        async with running_node(Path(scratch), own) as own_url:
            yield own_url, own


async def _main(options: argparse.Namespace) -> bool:
    plan = Plan(options.users, options.watchers, options.processes, tuple(options.phases.split(",")))
    async with _server(options.url, options.secret) as (url, secret):
        rows = await run_presence(plan, url, secret)
    return all(row.clean for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.presence", description="Presence under load.")
    parser.add_argument("--users", type=int, default=1_000, help="users online (1000)")
    parser.add_argument("--watchers", type=int, default=50, help="others who watch each of them (50)")
    parser.add_argument("--processes", type=int, default=2, help="of the driver (2)")
    parser.add_argument("--phases", default=",".join(PHASES), help="the first ones of these, or all (%(default)s)")
    parser.add_argument("--url", help="a server that runs already, without rate limits; with --secret")
    parser.add_argument("--secret", help="the HS256 secret of that server")
    options = parser.parse_args(arguments)
    if not 1 <= options.watchers <= WATCHERS_MAX or options.users <= options.watchers or options.processes < 1:
        parser.error(f"--watchers takes 1 to {WATCHERS_MAX}, --users more than --watchers")
    if (options.url is None) != (options.secret is None):
        parser.error("--url and --secret go together")
    try:
        return 0 if uvloop.run(_main(options)) else 1
    except (NodeFailed, CallFailed, WorkerFailed) as failure:
        print(f"presence: {failure}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
