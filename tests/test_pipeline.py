"""A connection's pipeline: in order, not in lockstep, everything answered, nothing hanging for ever."""

import asyncio
from collections.abc import Awaitable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import realtime.pipeline
from realtime.pipeline import MAX_UNDER_WAY, Event, Pipeline
from tests.clients.user import eventually


class Recorder:
    """Handlers that note what happens: `send` leaves a rest that ends when told, `wait` blocks, `read` is quick."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.pipeline = Pipeline(self.handle, self.expire)

    def push(self, name: str, tag: str, due_in: float = 5.0) -> Event:
        """Bring one event."""
        self.gates[tag] = asyncio.Event()
        event = Event(None, name, [tag], None, asyncio.get_running_loop().time() + due_in)
        self.pipeline.push(event)
        return event

    async def handle(self, event: Event) -> Awaitable[None] | None:
        """Start an event; only `send` leaves a rest."""
        tag = event.args[0]
        self.log.append(f"start {tag}")
        if event.name == "send":
            return self._rest(tag)
        if event.name == "wait":
            await self.gates[tag].wait()
        self.log.append(f"end {tag}")
        return None

    async def _rest(self, tag: str) -> None:
        await self.gates[tag].wait()
        self.log.append(f"end {tag}")

    def expire(self, event: Event) -> None:
        """Answer an overdue event."""
        event.answered = True
        self.log.append(f"expired {event.args[0]}")


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_sends_overlap_and_others_wait_for_them() -> None:
    """Two sends are under way at once; what follows starts when both have finished, and the next send after it."""
    recorder = Recorder()
    for name, tag in (("send", "a"), ("send", "b"), ("read", "c"), ("send", "d")):
        recorder.push(name, tag)
    await settle()
    assert recorder.log == ["start a", "start b"]
    recorder.gates["b"].set()
    await settle()
    assert recorder.log[2:] == ["end b"]
    recorder.gates["a"].set()
    await settle()
    assert recorder.log[3:] == ["end a", "start c", "end c", "start d"]
    recorder.gates["d"].set()
    await recorder.pipeline.drained()
    assert recorder.log[-1] == "end d"


async def test_an_overdue_event_is_answered_and_still_finishes() -> None:
    """The deadline answers for a slow handler and for what waits behind it; both take effect all the same, in order."""
    recorder = Recorder()
    recorder.push("wait", "slow", due_in=0.02)
    recorder.push("read", "behind", due_in=0.03)
    await eventually(lambda: "expired behind" in recorder.log)
    assert recorder.log == ["start slow", "expired slow", "expired behind"]
    recorder.gates["slow"].set()
    await recorder.pipeline.drained()
    assert recorder.log[3:] == ["end slow", "start behind", "end behind"]


async def test_a_handler_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long after its deadline a hanging handler is cancelled, first half or rest, and the connection goes on."""
    monkeypatch.setattr(realtime.pipeline, "ABANDON_SECONDS", 0.03)
    recorder = Recorder()
    recorder.push("wait", "first half", due_in=0.01)
    recorder.push("send", "rest", due_in=0.01)
    recorder.push("read", "after", due_in=5)
    await eventually(lambda: "end after" in recorder.log)
    assert recorder.log == [
        "start first half", "expired first half", "expired rest", "start rest", "start after", "end after",
    ]  # fmt: skip


async def test_a_full_pipeline_says_so_until_there_is_space() -> None:
    """With 256 events under way no more are taken; the first that finishes makes room."""
    recorder = Recorder()
    for number in range(MAX_UNDER_WAY):
        recorder.push("send", str(number))
    assert recorder.pipeline.is_full
    waiting = asyncio.create_task(recorder.pipeline.has_space())
    await settle()
    assert not waiting.done()
    recorder.gates["7"].set()
    await settle()
    assert waiting.done()
    assert not recorder.pipeline.is_full
    for gate in recorder.gates.values():
        gate.set()
    await recorder.pipeline.drained()


async def test_after_the_connection_has_gone_events_take_effect_unanswered() -> None:
    """What was taken before the end is finished; nobody is answered any more."""
    recorder = Recorder()
    event = recorder.push("wait", "late", due_in=0.01)
    await settle()
    recorder.pipeline.stop()
    assert event.answered
    await asyncio.sleep(0.03)
    recorder.gates["late"].set()
    await recorder.pipeline.drained()
    assert recorder.log == ["start late", "end late"]


@given(st.lists(st.sampled_from(["send", "read", "wait"]), max_size=12), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_mix_starts_in_order_and_only_sends_overlap(names: list[str], seed: int) -> None:
    """Whatever the mix and the order of completion: starts keep the order sent, and only sends run together."""

    async def run() -> list[str]:
        recorder = Recorder()
        for number, name in enumerate(names):
            recorder.push(name, f"{name}-{number}")
        tags = list(recorder.gates)
        Random(seed).shuffle(tags)
        for tag in tags:
            await settle()
            recorder.gates[tag].set()
        await recorder.pipeline.drained()
        return recorder.log

    log = asyncio.run(run())
    assert [line.split()[1] for line in log if line.startswith("start")] == [f"{n}-{i}" for i, n in enumerate(names)]
    running: set[str] = set()
    for line in log:
        what, tag = line.split()
        if what == "start":
            running.add(tag)
            assert len(running) == 1 or all(other.startswith("send") for other in running)
        else:
            running.remove(tag)
    assert not running
