"""The scenarios' courses: what happens to the connected users, and what is found out by it."""

import time
from collections import Counter
from statistics import median

from loadtests.client import CallFailed
from loadtests.ledger import Breach
from loadtests.orders import Phase
from loadtests.stage import Stage
from loadtests.tally import Tally

SHED_CODES = ("SERVER_BUSY", "SERVER_DRAINING")
"""How a server refuses a handshake that it will take later; the client is told when."""
SETTLE_SECONDS = 60.0
CATCH_UP_SECONDS = 3.0
"""What clients that read again may take to be cut, come back and fetch what they missed, before it counts as quiet."""
POLL_SECONDS = 0.05
MIB = 2**20


async def write(stage: Stage) -> None:
    """The senders write."""
    await stage.pause(stage.plan.seconds)


async def hold(stage: Stage) -> None:
    """Nobody does anything: what does a connection cost that is only open?"""
    before = await stage.watch.read()
    await stage.pause(stage.plan.seconds)
    after, people = await stage.watch.read(), stage.outcome.total().joined
    if before is None or after is None or stage.start is None or not people:
        return
    grown = (after.memory_bytes - stage.start.memory_bytes) / people / 1024
    share = (after.cpu_seconds - before.cpu_seconds) / stage.plan.seconds
    stage.find("kibPerClient", "KiB/client", grown, f"{after.memory_bytes / MIB:,.0f} MiB resident in all")
    stage.find("idleCpuPercent", "CPU, %", share * 100, "of one core, while nobody does anything")


async def storm(stage: Stage) -> None:
    """All clients drop and come back within the spread; half of the time before it, half after."""
    await stage.pause(stage.plan.seconds / 2)
    stage.watch.lap()
    began, comebacks = time.monotonic(), []
    try:
        comebacks = await stage.ask("drop", stage.plan.spread)
    finally:  # also what a Ctrl-C leaves
        seconds = max((part.seconds for part in comebacks), default=time.monotonic() - began)
        dropped = sum(part.dropped for part in comebacks) or stage.plan.connections
        _report_storm(stage, dropped, seconds)
    await stage.pause(stage.plan.seconds / 2)


def _report_storm(stage: Stage, dropped: int, seconds: float) -> None:
    waits, tally = stage.watch.lap().waits, stage.outcome.phases[Phase.STORM]
    served = tally.back.total
    errors = Counter({code: count for code, count in tally.errors.items() if code not in SHED_CODES})
    named = ", ".join(f"{code} {count:,}" for code, count in errors.most_common())
    label = "all served, s" if served == dropped else "ended after, s"
    stage.find("servedSeconds", label, seconds, f"{served:,} of the {dropped:,} that were dropped")
    stage.find("dropped", "dropped", dropped)
    stage.find("served", "served", served)
    stage.find("recovered", "recovered", tally.recovered, "got their old session and what they had missed")
    stage.find("shed", "shed", sum(tally.errors[code] for code in SHED_CODES), "handshakes refused by 503 for now")
    stage.find("stormErrors", "errors", errors.total(), named)
    for percent in (50, 99, 100):
        stage.find(f"backMsP{percent}", f"back p{percent}, ms", tally.back.percentile(percent) / 1000)
    stage.find("loopMs", "loop p100, ms", waits.maximum / 1000, "longest answer of /health/liveness meanwhile")


async def stall(stage: Stage) -> None:
    """The senders write while all users read, then while some have stopped to, then while all read again.

    Half of the quiet time is before and half after, so that a machine that gets busier does not look like slow clients.
    """
    await stage.pause(stage.plan.seconds / 2)
    before = await stage.watch.read()
    stage.watch.lap()
    stalled = sum(await stage.ask("stall"))
    await stage.pause(stage.plan.seconds)
    lap, phases = stage.watch.lap(), stage.outcome.phases
    await stage.ask("resume")
    await stage.pause(CATCH_UP_SECONDS)
    await stage.ask("calm")
    await stage.pause(stage.plan.seconds / 2)
    await stage.ask("flush")
    quiet, slow = phases[Phase.SENDING], phases[Phase.SLOW]
    stage.find("stalled", "stalled", stalled, "clients that read nothing; the figures below are the others'")
    _compare(stage, "delivery", quiet, slow)
    _compare(stage, "ack", quiet, slow)
    if before is not None:
        stage.find("memoryBefore", "MiB before", before.memory_bytes / MIB, "the server's resident memory")
        peak = max(lap.memory_peak_bytes, before.memory_bytes)
        stage.find("memoryPeak", "MiB peak", peak / MIB, "while they read nothing")


def _compare(stage: Stage, kind: str, quiet: Tally, slow: Tally) -> None:
    """p99 in both phases, and the ratio of the median second's p99, which one hiccup of the machine does not move."""
    without, with_them = (getattr(tally, kind).percentile(99) / 1000 for tally in (quiet, slow))
    stage.find(f"{kind}P99MsQuiet", f"{kind} p99, ms", without, "while all read")
    stage.find(f"{kind}P99MsSlow", f"{kind} p99, ms", with_them, "while they do not")
    medians = []
    for phase in (Phase.SENDING, Phase.SLOW):
        seconds = [second for second in stage.outcome.timeline.seconds() if second.phase == phase]
        medians.append(median([getattr(second, f"{kind}_p99") for second in seconds] or [0.0]))
    if medians[0]:
        remark = f"of the median seconds' p99, {medians[0]:.1f} and {medians[1]:.1f} ms"
        stage.find(f"{kind}P99Ratio", "ratio", medians[1] / medians[0], remark)


async def leave(stage: Stage) -> None:
    """All clients drop at once for good: how long until the server has settled? Raises CallFailed without gauges."""
    if stage.start is None:
        raise CallFailed("NO_METRICS", "the server does not answer /health/metrics, which this scenario goes by")
    before = await stage.watch.read()
    stage.watch.lap()
    began = time.monotonic()
    await stage.ask("leave")
    left = await stage.watch.read()
    while (left is None or left.connections > stage.start.connections) and time.monotonic() - began < SETTLE_SECONDS:
        await stage.pause(POLL_SECONDS)
        left = await stage.watch.read()
    seconds, waits = time.monotonic() - began, stage.watch.lap().waits
    remaining = left.connections - stage.start.connections if left is not None else -1
    if remaining:
        stage.outcome.breaches[Breach.UNSETTLED] = max(1, remaining)
    stage.find(
        "settledSeconds", "settled, s", seconds, f"until /health/metrics counted {stage.start.connections:,} again"
    )
    stage.find("loopMs", "loop p100, ms", waits.maximum / 1000, "longest answer of /health/liveness meanwhile")
    if before is not None and left is not None:
        stage.find("cpuSeconds", "CPU, s", left.cpu_seconds - before.cpu_seconds, "of the server")
