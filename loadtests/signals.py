"""The signals scenario: what typing and receipts cost the messages that are sent meanwhile.

    python -m loadtests.signals [--clients 1000 --room-size 10 --messages 200 --events 5000 --seconds 10]
                                [--url URL --secret SECRET]

Members of small rooms send messages at a steady rate, first in quiet, then while all members together type, stop, and
report what has been delivered and read, so many events a second. Prints the latency of the messages' acks in both, and
the server's CPU time for an event. Exit status 1 when an event was refused.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from loadtests.client import CallFailed, Connection, Reply
from loadtests.latency import Histogram
from loadtests.node import NodeFailed, running_node
from loadtests.recovery import Session
from loadtests.scrape import Server, look_at
from loadtests.tokens import sign_tokens

KINDS = ("typing:start", "typing:start", "typing:stop", "message:delivered", "message:read")
"""What every client does in turn; the second start is swallowed by the server."""
CONNECTING_AT_ONCE = 64
IDLE_CPU_SECONDS = 0.1
"""In a second: less than that, and nothing is left of a phase."""
SETTLE_TRIES = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """Rates are per second, over all clients."""

    clients: int = 1_000
    room_size: int = 10
    messages: float = 200.0
    events: float = 5_000.0
    seconds: float = 10.0


@dataclass(slots=True)
class Phase:
    """What came of one phase; `server` is what it looked like before and after."""

    name: str
    before: Server
    after: Server
    acks: Histogram = field(default_factory=Histogram)
    event_acks: Histogram = field(default_factory=Histogram)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def cpu_seconds(self) -> float:
        """Of the server."""
        return self.after.cpu_seconds - self.before.cpu_seconds


class Member(Connection):
    """A connection that knows the room's last seq and is deaf to everything else."""

    def __init__(self, token: str, listener: object, resume: Session | None = None) -> None:
        super().__init__(token, self, resume)
        self.room_id = ""
        self.last_seq = 0
        self.turn = 0

    def on_message(self, message: dict[str, Any]) -> None:
        """A message of the room."""
        self.last_seq = max(self.last_seq, int(message["seq"]))

    def _on_text(self, data: bytes) -> None:
        if data.startswith((b'42["typing:', b'42["message:read', b'42["message:deli', b'42["unread')):
            return
        super()._on_text(data)


class Crowd:
    """All members, and what they do."""

    def __init__(self, plan: Plan, url: str) -> None:
        self._plan = plan
        self._url = url
        self._members: list[Member] = []
        self._loop = asyncio.get_running_loop()

    async def connect(self, secret: str) -> None:
        """Make the rooms and connect everybody. Raises CallFailed."""
        run, size = secrets.token_hex(4), self._plan.room_size
        ids = [f"signal-{run}-{number}" for number in range(self._plan.clients)]
        tokens = sign_tokens(ids, secret)
        ramp = asyncio.Semaphore(CONNECTING_AT_ONCE)

        async def settle(start: int) -> None:
            async with ramp:
                first = await self._open(tokens[start])
                made = await first.call("room:create", {"kind": "group", "memberIds": ids[start + 1 : start + size]})
                others = [await self._open(token) for token in tokens[start + 1 : start + size]]
            for member in (first, *others):
                member.room_id = made["room"]["roomId"]
                self._members.append(member)

        await asyncio.gather(*(settle(start) for start in range(0, len(ids), size)))

    async def _open(self, token: str) -> Member:
        member = await Member.open(self._url, token, _NOBODY)
        assert isinstance(member, Member)
        return member

    async def run(self, name: str, *, noisy: bool) -> Phase:
        """One phase."""
        before = await look_at(self._url)
        phase = Phase(name, before, before)
        work = [self._pace(self._plan.messages, lambda turn: self._send(turn, phase))]
        if noisy:
            work.append(self._pace(self._plan.events, lambda turn: self._signal(turn, phase)))
        await asyncio.gather(*work)
        phase.after = await self.settle()
        return phase

    async def settle(self) -> Server:
        """Wait until the server has nothing to do, or a while. Returns what it looks like then."""
        server = await look_at(self._url)
        for _ in range(SETTLE_TRIES):
            await asyncio.sleep(1)
            before, server = server, await look_at(self._url)
            if server.cpu_seconds - before.cpu_seconds < IDLE_CPU_SECONDS:
                break
        return server

    async def _pace(self, rate: float, act: Callable[[int], None]) -> None:
        """Act at this rate; a turn missed by a busy loop is made up at once."""
        began, turn = self._loop.time(), 0
        while (now := self._loop.time()) < began + self._plan.seconds:
            while began + turn / rate <= now:
                act(turn)
                turn += 1
            await asyncio.sleep(0.001)

    def _send(self, turn: int, phase: Phase) -> None:
        # A prime step: one sender after the other is in another room.
        member = self._members[turn * 7919 % len(self._members)]
        fields = {"roomId": member.room_id, "text": "m" * 64, "clientId": secrets.token_hex(8)}
        member.emit("message:send", fields, self._on_ack(phase.acks, phase))

    def _signal(self, turn: int, phase: Phase) -> None:
        member = self._members[turn % len(self._members)]
        event = KINDS[(member.turn + turn) % len(KINDS)]
        member.turn += 1
        fields: dict[str, Any] = {"roomId": member.room_id}
        if event.startswith("message:"):
            fields["seq"] = max(1, member.last_seq)
        member.emit(event, fields, self._on_ack(phase.event_acks, phase))

    def _on_ack(self, latency: Histogram, phase: Phase) -> Callable[[Reply], None]:
        began = self._loop.time()

        def on_ack(reply: Reply) -> None:
            latency.record(int((self._loop.time() - began) * 1e6))
            if reply.get("success") is not True:
                phase.failures[reply["error"]["code"]] += 1

        return on_ack

    def close(self) -> None:
        """End all connections."""
        for member in self._members:
            member.close()


class _Nobody:
    def on_message(self, message: dict[str, Any]) -> None:
        """Members listen for themselves."""


_NOBODY = _Nobody()


async def run_signals(plan: Plan, url: str, secret: str) -> tuple[Phase, Phase]:
    """The quiet phase and the noisy one. Raises CallFailed."""
    crowd = Crowd(plan, url)
    try:
        await crowd.connect(secret)
        await crowd.settle()
        return await crowd.run("quiet", noisy=False), await crowd.run("noisy", noisy=True)
    finally:
        crowd.close()


def report(quiet: Phase, noisy: Phase, plan: Plan) -> str:
    """What came of it, in a few lines."""
    lines = [_line(phase, plan) for phase in (quiet, noisy)]
    cost = (noisy.cpu_seconds - quiet.cpu_seconds) / max(1, noisy.event_acks.total)
    ratio = noisy.acks.percentile(99) / max(1, quiet.acks.percentile(99))
    return "\n".join([*lines, f"p99 {ratio:.2f} times the quiet one; {cost * 1e6:.0f} µs of server CPU an event"])


def _line(phase: Phase, plan: Plan) -> str:
    acks, event_acks, before, after = phase.acks, phase.event_acks, phase.before, phase.after
    return (
        f"{phase.name}: {acks.total:,} messages, acks p50 {acks.percentile(50) / 1000:.1f} ms, "
        f"p99 {acks.percentile(99) / 1000:.1f} ms (the server says below {after.send_ack(before, 0.99) * 1000:g}); "
        f"{event_acks.total / plan.seconds:,.0f} events/s, acks p99 {event_acks.percentile(99) / 1000:.1f} ms; "
        f"server {phase.cpu_seconds:.2f} s CPU, loop at most {after.worst_lag(before) * 1000:g} ms late; "
        f"failures {dict(phase.failures)}"
    )


async def _main(options: argparse.Namespace) -> bool:
    plan = Plan(options.clients, options.room_size, options.messages, options.events, options.seconds)
    async with AsyncExitStack() as stack:
        url, secret = options.url, options.secret
        if url is None:
            secret = secrets.token_hex(32)
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-signals-"))
            url = await stack.enter_async_context(running_node(Path(scratch), secret))
        quiet, noisy = await run_signals(plan, url, secret)
    print(report(quiet, noisy, plan))
    return not (quiet.failures or noisy.failures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.signals", description="Typing and receipts under load.")
    parser.add_argument("--clients", type=int, default=1_000, help="connections (1000)")
    parser.add_argument("--room-size", type=int, default=10, help="members of a room (10)")
    parser.add_argument("--messages", type=float, default=200, help="messages/s (200)")
    parser.add_argument("--events", type=float, default=5_000, help="typing and receipt events/s (5000)")
    parser.add_argument("--seconds", type=float, default=10, help="of each phase (10)")
    parser.add_argument("--url", help="a server that runs already, without rate limits; with --secret")
    parser.add_argument("--secret", help="the HS256 secret of that server")
    options = parser.parse_args(arguments)
    if (options.url is None) != (options.secret is None):
        parser.error("--url and --secret go together")
    if not 2 <= options.room_size <= min(options.clients, 200) or min(options.messages, options.events) <= 0:
        parser.error("--room-size takes 2 to 200, and rates are above 0")
    try:
        return 0 if uvloop.run(_main(options)) else 1
    except (NodeFailed, CallFailed) as failure:
        print(f"signals: {failure}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
