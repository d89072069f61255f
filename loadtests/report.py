"""What a run looks like: one line that moves while it goes on, a table and a verdict at its end."""

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from loadtests.tally import Tally

if TYPE_CHECKING:
    from loadtests.chat import Outcome

LINE_SECONDS = 1.0
MIB = 2**20


class Live:
    """Progress on stderr, once a second: in place on a terminal, line by line elsewhere."""

    def __init__(self, connections: int, stream: TextIO | None = None) -> None:
        self._connections = connections
        self._stream = stream or sys.stderr
        self._in_place = self._stream.isatty()
        self._began = self._shown_at = time.monotonic()
        self._phase = ""
        self._open = self._joined = self._sent = self._errors = 0
        self._second = Tally()

    def say(self, text: str) -> None:
        """Show a line now."""
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{text[:width]}" if self._in_place else f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the terminal's line free for what follows."""
        if self._in_place:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, phase: str, tally: Tally) -> None:
        """Take a report in, and show a line when one is due."""
        now = time.monotonic()
        self._second.add(tally)
        self._open += tally.connected
        self._joined += tally.joined
        self._sent += tally.sent
        self._errors += sum(tally.errors.values())
        if phase != self._phase:
            self._phase, self._began = phase, now
        seconds = now - self._shown_at
        if seconds >= LINE_SECONDS:
            self.say(self._line(now - self._began, seconds))
            self._second, self._shown_at = Tally(), now

    def _line(self, age: float, seconds: float) -> str:
        second = self._second
        errors = f"   errors {self._errors:,}" if self._errors else ""
        if self._phase in ("connecting", "waiting"):
            return f"{self._phase} {self._joined:,}/{self._connections:,}   {second.joined / seconds:,.0f}/s{errors}"
        return (
            f"{self._phase} {age:3.0f} s   open {self._open:,}   sent {self._sent:,}   "
            f"acked {second.acked / seconds:,.0f}/s {_pair(second.ack)}   "
            f"delivered {second.delivered / seconds:,.0f}/s {_pair(second.delivery)}{errors}"
        )


def _pair(histogram: Any) -> str:
    return f"(p50 {histogram.percentile(50) / 1000:.1f} p99 {histogram.percentile(99) / 1000:.1f} ms)"


def figures(outcome: "Outcome") -> dict[str, Any]:
    """All figures of a run, as they go to --json; latencies in ms, rates per second of the sending phase."""
    plan, total, sending = outcome.plan, outcome.total(), outcome.phases["sending"]
    verdict = outcome.verdict
    return {
        "run": outcome.run,
        "plan": {name: getattr(plan, name) for name in plan.__slots__},
        "interrupted": outcome.interrupted,
        "connected": total.joined,
        "connectsPerSecond": _rate(outcome.phases["connecting"].joined, outcome.connect_seconds),
        "seconds": outcome.send_seconds,
        "sent": total.sent,
        "acked": total.acked,
        "delivered": total.delivered,
        "ackedPerSecond": _rate(sending.acked, outcome.send_seconds),
        "deliveredPerSecond": _rate(sending.delivered, outcome.send_seconds),
        "ackLatencyMs": total.ack.milliseconds(),
        "deliveryLatencyMs": total.delivery.milliseconds(),
        "reconnects": total.reconnects,
        **{finding.key: round(finding.value, 3) for finding in outcome.findings},
        **_server(outcome),
        "unacknowledged": outcome.unacknowledged,
        "skipped": total.skipped,
        "errors": dict(total.errors.most_common()),
        "clean": verdict.clean if verdict else None,
        "breaches": dict(verdict.breaches) if verdict else {},
        "examples": verdict.examples if verdict else {},
        "timeline": [second._asdict() for second in outcome.timeline.seconds()],
    }


def _server(outcome: "Outcome") -> dict[str, float]:
    """CPU and memory of the servers, where they show them; `cpuMicrosPerDelivery` only where there was one."""
    if None in outcome.gauges or len(outcome.gauges) < 3:
        return {}
    start, before, after = (gauges for gauges in outcome.gauges if gauges is not None)
    outside = ("connecting", "waiting", "draining")
    delivered = sum(tally.delivered for phase, tally in outcome.phases.items() if phase not in outside)
    cpu_seconds = after.cpu_seconds - before.cpu_seconds
    per_delivery = {"cpuMicrosPerDelivery": round(cpu_seconds / delivered * 1e6, 2)} if delivered else {}
    memory = {"memoryStartBytes": start.memory_bytes, "memoryEndBytes": after.memory_bytes}
    return {"serverCpuSeconds": round(cpu_seconds, 2), **per_delivery, **memory}


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds else 0.0


def table(outcome: "Outcome") -> str:
    """The figures and the verdict for people."""
    values, plan = figures(outcome), outcome.plan
    rows = [
        f"{values['connected']:,} of {plan.connections:,} connections in {plan.rooms:,} rooms, "
        f"{plan.senders:,} senders, {values['seconds']:.1f} s, processes: {plan.processes}, run {outcome.run}"
        + (" (ended early)" if outcome.interrupted else ""),
        "",
        f"connects/s    {values['connectsPerSecond']:>12,.0f}",
        *(_writing(values) if plan.senders else [""]),
        *_findings(outcome, values),
        *_extras(values),
        *_verdict(outcome),
    ]
    return "\n".join(rows)


def _writing(values: dict[str, Any]) -> list[str]:
    return [
        f"acked/s       {values['ackedPerSecond']:>12,.0f}   of {values['sent']:,} sent, {values['acked']:,} acked",
        f"delivered/s   {values['deliveredPerSecond']:>12,.0f}   {values['delivered']:,} in all",
        "",
        f"latency, ms   {'p50':>12}{'p95':>10}{'p99':>10}{'max':>10}",
        _latency("  ack", values["ackLatencyMs"]),
        _latency("  delivery", values["deliveryLatencyMs"]),
        "",
    ]


def _latency(name: str, figures: dict[str, float]) -> str:
    return f"{name:<14}{figures['p50']:>12.1f}" + "".join(f"{figures[key]:>10.1f}" for key in ("p95", "p99", "max"))


def _findings(outcome: "Outcome", values: dict[str, Any]) -> list[str]:
    rows = [
        f"{label:<18}{value:>8,.{0 if value == int(value) else 2 if value < 10 else 1}f}   {remark}".rstrip()
        for _, label, value, remark in outcome.findings
    ]
    if "serverCpuSeconds" in values:
        per_delivery = values.get("cpuMicrosPerDelivery")
        rows.append(
            f"server        {values['serverCpuSeconds']:>12,.1f}   CPU seconds"
            + (f", {per_delivery:,.1f} µs a delivery" if per_delivery else "")
            + f"; resident {values['memoryStartBytes'] / MIB:,.0f} to {values['memoryEndBytes'] / MIB:,.0f} MiB"
        )
    return [*rows, ""] if rows else rows


def _extras(values: dict[str, Any]) -> list[str]:
    rows = [f"{name:<14}{values[name]:>12,}" for name in ("reconnects", "unacknowledged", "skipped") if values[name]]
    if values["errors"]:
        rows.append("errors        " + ", ".join(f"{code} {count:,}" for code, count in values["errors"].items()))
    if "RATE_LIMITED" in values["errors"]:
        rows.append("              the server limits rates: RATE_LIMITS=off in its environment lifts that")
    return [*rows, ""] if rows else rows


def _verdict(outcome: "Outcome") -> list[str]:
    verdict = outcome.verdict
    if verdict is None:
        return ["verdict       none: ended before anything was sent"]
    if verdict.clean and not outcome.plan.senders:
        return ["verdict       clean: everybody was connected, and the server has settled"]
    if verdict.clean:
        acked = outcome.total().acked
        return [f"verdict       clean: of {acked:,} acked messages none lost, duplicated or out of order, no hole"]
    rows = ["verdict       NOT CLEAN"]
    for kind, count in verdict.breaches.most_common():
        examples = verdict.examples.get(kind, [])
        rows.append(f"  {count:>10,}  {kind}" + (f"\n              e.g. {'; '.join(examples)}" if examples else ""))
    return rows
