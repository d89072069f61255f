"""A connection's pipeline: in order, not in lockstep, everything answered, nothing hanging for ever."""

import asyncio
from collections.abc import Awaitable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.pipeline import Event, Pipeline, Pipelines
from realtime.timeouts import Timeouts
from tests.clients.user import eventually

EVENTS_UNDER_WAY = 256


class Recorder:
    """Handlers that note what happens.

    `send` leaves a rest that ends when told, `now` is the same taken at once, `wait` blocks, `read` is quick.
    """

    def __init__(self, *, deadline_seconds: float = 5.0, abandon_seconds: float = 15.0) -> None:
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.begun: dict[str, Event] = {}
        self.made_room = 0
        self.pipeline = Pipeline(
            None,
            Pipelines(
                self,
                Timeouts(),
                EVENTS_UNDER_WAY,
                deadline_seconds=deadline_seconds,
                abandon_seconds=abandon_seconds,
            ),
        )

    def push(self, name: str, tag: str) -> Event:
        """Bring one event."""
        self.gates[tag] = asyncio.Event()
        event = Event(None, name, [tag], None, asyncio.get_running_loop().time())
        self.pipeline.push(event)
        return event

    def open(self, tag: str) -> None:
        """Let an event end."""
        self.gates[tag].set()
        if tag in self.begun:
            self.log.append(f"end {tag}")
            self.begun.pop(tag).finish()

    def begin(self, event: Event) -> bool:
        """Take a `now` at once."""
        if event.name != "now":
            return False
        tag = event.args[0]
        self.log.append(f"start {tag}")
        if self.gates[tag].is_set():
            self.log.append(f"end {tag}")
            event.finish()
        else:
            self.begun[tag] = event
        return True

    def roomier(self, pipeline: Pipeline) -> None:
        """Note that there is room."""
        self.made_room += 1

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
    recorder = Recorder(deadline_seconds=0.05)
    recorder.push("wait", "slow")
    recorder.push("read", "behind")
    await eventually(lambda: "expired behind" in recorder.log)
    assert recorder.log == ["start slow", "expired slow", "expired behind"]
    recorder.gates["slow"].set()
    await recorder.pipeline.drained()
    assert recorder.log[3:] == ["end slow", "start behind", "end behind"]


async def test_a_handler_that_hangs_is_given_up() -> None:
    """Long after its deadline a hanging handler is cancelled, first half or rest, and the connection goes on."""
    recorder = Recorder(deadline_seconds=0.05, abandon_seconds=0.2)
    recorder.push("wait", "first half")
    recorder.push("send", "rest")
    await eventually(lambda: "start rest" in recorder.log)
    recorder.push("read", "after")
    await eventually(lambda: "end after" in recorder.log)
    assert [line for line in recorder.log if line != "expired after"] == [
        "start first half", "expired first half", "expired rest", "start rest", "start after", "end after",
    ]  # fmt: skip


async def test_a_full_pipeline_says_so_until_there_is_space() -> None:
    """With 256 events under way no more are to be taken; the first that finishes makes room."""
    recorder = Recorder()
    for number in range(EVENTS_UNDER_WAY):
        recorder.push("send", str(number))
    await settle()
    assert recorder.pipeline.is_full
    assert recorder.made_room == 0
    recorder.gates["7"].set()
    await settle()
    assert recorder.made_room == 1
    assert not recorder.pipeline.is_full
    for gate in recorder.gates.values():
        gate.set()
    await recorder.pipeline.drained()
    assert recorder.made_room == 1


async def test_what_needs_no_wait_starts_in_the_call_that_brings_it() -> None:
    """Events taken at once need no loop iteration, overlap with their own name, and hold up the others."""
    recorder = Recorder()
    recorder.push("now", "a")
    recorder.push("now", "b")
    recorder.push("read", "c")
    recorder.push("now", "d")
    assert recorder.log == ["start a", "start b"]
    recorder.open("b")
    await settle()
    assert recorder.log[2:] == ["end b"]
    recorder.open("a")
    await settle()
    assert recorder.log[3:] == ["end a", "start c", "end c", "start d"]
    recorder.open("d")
    await recorder.pipeline.drained()
    assert not recorder.pipeline.is_busy


@given(st.lists(st.sampled_from(["send", "read", "wait", "now"]), max_size=12), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_mix_starts_in_order_and_only_sends_overlap(names: list[str], seed: int) -> None:
    """Whatever the mix and the order of completion: starts keep the order sent, and only those of one name overlap."""

    async def run() -> list[str]:
        recorder = Recorder()
        for number, name in enumerate(names):
            recorder.push(name, f"{name}-{number}")
        tags = list(recorder.gates)
        Random(seed).shuffle(tags)
        for tag in tags:
            await settle()
            recorder.open(tag)
        await recorder.pipeline.drained()
        return recorder.log

    log = asyncio.run(run())
    assert [line.split()[1] for line in log if line.startswith("start")] == [f"{n}-{i}" for i, n in enumerate(names)]
    running: set[str] = set()
    for line in log:
        what, tag = line.split()
        if what == "start":
            running.add(tag)
            assert len(running) == 1 or {other.split("-")[0] for other in running} in ({"send"}, {"now"})
        else:
            running.remove(tag)
    assert not running
