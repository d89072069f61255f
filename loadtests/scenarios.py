"""The table of scenarios: what each is, what it does when nothing else is asked for, and what runs it."""

import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from loadtests import courses
from loadtests.chat import Outcome, Plan, new_run, run_chat, user_ids
from loadtests.cluster import run_cluster
from loadtests.node import running_node
from loadtests.report import Live
from loadtests.stage import Course
from loadtests.tokens import sign_tokens

Sign = Callable[[Sequence[str]], Sequence[str]]
"""Tokens for these user ids."""


class Scenario(NamedTuple):
    """One row. `course` is None for the scenario that starts nodes of its own; `asks` are the plan's fields that the
    command line offers beside those of every scenario."""

    summary: str
    defaults: Plan
    course: Course | None
    asks: tuple[str, ...]


WRITES = ("seconds", "senders", "rate", "window", "payload")

SCENARIOS: dict[str, Scenario] = {
    "chat": Scenario(
        "users in rooms, some of them writing, as fast as acks come",
        Plan(connections=1000, rooms=100, senders=100, seconds=10),
        courses.write,
        WRITES,
    ),
    "fanout": Scenario(
        "one room that everybody is in and one writes to",
        Plan(connections=500, rooms=1, senders=1, seconds=10, window=4),
        courses.write,
        WRITES,
    ),
    "idle": Scenario(
        "users who only are connected: memory and CPU of the server",
        Plan(connections=5000, rooms=500, senders=0, seconds=10),
        courses.hold,
        ("seconds",),
    ),
    "storm": Scenario(
        "all clients drop and come back within a second, while some write",
        Plan(connections=5000, rooms=500, senders=50, seconds=10, rate=50),
        courses.storm,
        (*WRITES, "spread"),
    ),
    "slow": Scenario(
        "some clients stop reading: what that does to the others, and to the server's memory",
        Plan(connections=100, rooms=1, senders=1, seconds=10, rate=100, window=16, payload=8000, slow=1),
        courses.stall,
        (*WRITES, "slow"),
    ),
    "disconnects": Scenario(
        "all clients drop at once for good: time until the server has settled",
        Plan(connections=10_000, rooms=1000, senders=0, seconds=0, processes=2),
        courses.leave,
        (),
    ),
    "cluster": Scenario(
        "starts one node, then several: senders and receivers on different ones, CPU of a delivery compared",
        Plan(connections=1000, rooms=50, senders=50, seconds=10, rate=500, window=16),
        None,
        (*WRITES, "nodes"),
    ),
}


async def run_scenario(scenario: Scenario, plan: Plan, sign: Sign | None) -> Outcome:
    """Run it against the plan's servers; without `sign`, which makes their tokens, against one that it starts itself.

    Raises CallFailed, WorkerFailed, and with servers of its own also NodeFailed and EmbeddedError.
    """
    if scenario.course is None:
        return await run_cluster(plan)
    if sign is not None:
        return await _run(scenario.course, plan, sign)
    secret = secrets.token_hex(32)
    with tempfile.TemporaryDirectory(prefix="parley-load-") as scratch:
        async with running_node(Path(scratch), secret) as url:
            return await _run(scenario.course, replace(plan, urls=(url,)), lambda names: sign_tokens(names, secret))


async def _run(course: Course, plan: Plan, sign: Sign) -> Outcome:
    run, live = new_run(), Live(plan.connections)
    try:
        return await run_chat(plan, run, sign(user_ids(run, plan)), live, course)
    finally:
        live.end()
