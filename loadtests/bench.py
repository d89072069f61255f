"""`make bench`: the figures that Parley is held to, in one table, on servers that it starts itself.

    python -m loadtests.bench [--seconds 5] [--markdown]

Nothing is pinned to a core: stores, server and driver share the machine. Exit status 1 when a verdict is not clean.
"""

import argparse
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uvloop

from loadtests.chat import Outcome, Plan, new_run, run_chat, user_ids
from loadtests.client import CallFailed
from loadtests.commit import ROOMS, SENDERS, Commits, measure_commits
from loadtests.latency import Histogram
from loadtests.machine import describe_machine
from loadtests.node import NodeFailed, running_node
from loadtests.pool import WorkerFailed
from loadtests.report import Live, figures, table
from loadtests.tokens import sign_tokens
from server.embedded import EmbeddedServers
from server.processes import EmbeddedError

SCENARIOS = {
    "one-to-one, 500 rooms of 2": Plan(connections=1000, rooms=500, senders=1000, seconds=5),
    "rooms of 10, 100 rooms": Plan(connections=1000, rooms=100, senders=100, seconds=5),
}
COLUMNS = ("", "acked/s", "delivered/s", "ack p50 ms", "ack p99 ms", "delivery p99 ms", "")


class Interrupted(Exception):
    """Ctrl-C: there will be no table."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    acked: str
    delivered: str = ""
    ack_p50: str = ""
    ack_p99: str = ""
    delivery_p99: str = ""
    remark: str = ""


async def run_bench(seconds: float) -> tuple[list[Row], str, bool]:
    """All measurements one after the other; the rows, MongoDB's version, and whether every verdict is clean.

    Raises EmbeddedError, NodeFailed, CallFailed, WorkerFailed or Interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as scratch:
        _say(f"group commit and insert_one, {seconds:.0f} s each")
        stores = EmbeddedServers(Path(scratch, "stores"), mongodb=True, redis=False)
        await stores.start()
        try:
            grouped, plain, mongodb = await measure_commits(stores.mongodb_url, seconds)
        finally:
            await stores.stop()
        rows, clean = _commit_rows(grouped, plain), True
        secret = secrets.token_hex(32)
        for number, (name, plan) in enumerate(SCENARIOS.items()):
            _say(name)
            async with running_node(Path(scratch, f"node-{number}"), secret) as url:
                outcome = await _chat(plan, seconds, url, secret)
            rows.append(_chat_row(name, outcome))
            if outcome.verdict is None or not outcome.verdict.clean:
                clean = False
                _say(table(outcome))
    return rows, mongodb, clean


async def _chat(plan: Plan, seconds: float, url: str, secret: str) -> Outcome:
    plan, run = replace(plan, seconds=seconds, urls=(url,)), new_run()
    live = Live(plan.connections)
    try:
        outcome = await run_chat(plan, run, sign_tokens(user_ids(run, plan), secret), live)
    finally:
        live.end()
    if outcome.interrupted:
        raise Interrupted
    return outcome


def _commit_rows(grouped: Commits, plain: Commits) -> list[Row]:
    given = f"{SENDERS} senders, {ROOMS} rooms, w: majority, j: true"
    return [
        _commit_row("group commit", grouped, f"{given}; mean batch {grouped.mean_batch:.0f}"),
        _commit_row("insert_one", plain, "the same documents and indexes"),
        Row("ratio", f"{grouped.per_second / plain.per_second:.1f}"),
    ]


def _commit_row(name: str, commits: Commits, remark: str) -> Row:
    rate = f"{commits.per_second:,.0f}"
    return Row(name, rate, "", _ms(commits.latency, 50), _ms(commits.latency, 99), "", remark)


def _chat_row(name: str, outcome: Outcome) -> Row:
    values, total = figures(outcome), outcome.total()
    verdict = "clean" if values["clean"] else "NOT CLEAN"
    return Row(
        name,
        f"{values['ackedPerSecond']:,.0f}",
        f"{values['deliveredPerSecond']:,.0f}",
        _ms(total.ack, 50),
        _ms(total.ack, 99),
        _ms(total.delivery, 99),
        f"{values['connectsPerSecond']:,.0f} connects/s; verdict {verdict}",
    )


def _ms(histogram: Histogram, percent: float) -> str:
    return f"{histogram.percentile(percent) / 1000:.1f}"


def render(rows: Sequence[Row], *, markdown: bool) -> str:
    """The table, for a terminal or as markdown."""
    lines = [COLUMNS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    last = len(COLUMNS) - 1
    padded = [
        [cell.ljust(width) if column in (0, last) else cell.rjust(width) for column, (cell, width) in enumerate(cells)]
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    if not markdown:
        return "\n".join("  ".join(cells).rstrip() for cells in padded)
    rule = ["-" * width if column in (0, last) else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description="Measures Parley on this machine.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (5)")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    options = parser.parse_args(arguments)
    if not 0 < options.seconds <= 600:
        parser.error("--seconds takes more than 0 and at most 600")
    try:
        rows, mongodb, clean = uvloop.run(run_bench(options.seconds))
    except (EmbeddedError, NodeFailed, CallFailed, WorkerFailed) as failure:
        _say(f"bench: {failure}")
        return 3
    except (Interrupted, KeyboardInterrupt):
        _say("bench: interrupted")
        return 130
    facts = [f"{datetime.now(UTC):%Y-%m-%d}, MongoDB {mongodb}", *describe_machine()]
    print("\n".join(f"- {fact}" if options.markdown else fact for fact in facts))
    print()
    print(render(rows, markdown=options.markdown))
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
