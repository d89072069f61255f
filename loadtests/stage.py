"""What a scenario's course acts on: connected users who write, a clock, and the server's gauges."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from signal import SIGINT
from typing import TYPE_CHECKING, Any, NamedTuple

from loadtests.pool import Pool
from loadtests.watch import Gauges, Watch

if TYPE_CHECKING:
    from loadtests.chat import Outcome


class Finding(NamedTuple):
    """One figure of a scenario's own."""

    key: str
    label: str
    value: float
    remark: str


class Stopped(Exception):
    """Ctrl-C: the phase under way ends here."""


class Stage:
    """A run in progress. Whatever waits here raises Stopped at the first Ctrl-C and WorkerFailed with a worker."""

    def __init__(self, pool: Pool, outcome: "Outcome", stop: asyncio.Event, watch: Watch) -> None:
        self.outcome = outcome
        self.plan = outcome.plan
        self.watch = watch
        self.start: Gauges | None = None
        """The servers' gauges before the first user connected; None where they show none."""
        self._pool = pool
        self._stop = stop

    def find(self, key: str, label: str, value: float, remark: str = "") -> None:
        """Enter a figure: under `key` in the JSON, as a row `label value remark` in the table."""
        self.outcome.findings.append(Finding(key, label, value, remark))

    async def pause(self, seconds: float) -> None:
        """Let the users go on for so long."""
        await self._first_of(asyncio.create_task(asyncio.sleep(seconds)))

    async def ask(self, order: str, body: Any = None) -> list[Any]:
        """Give the workers an order; returns their answers."""
        self._pool.tell(order, body)
        return list(await self._first_of(asyncio.create_task(self._pool.answers(order))))

    async def _first_of(self, work: asyncio.Task[Any]) -> Any:
        stopped = asyncio.create_task(self._stop.wait())
        try:
            waits: list[asyncio.Future[Any]] = [work, stopped, self._pool.failed]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self._pool.failed.done():
                raise self._pool.failed.result()
            if not work.done():
                raise Stopped
            return work.result()
        finally:
            stopped.cancel()
            work.cancel()


Course = Callable[[Stage], Awaitable[None]]
"""What happens between the first message and the last; it enters its findings in the stage's outcome."""


@contextmanager
def interruptible() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C sets; the second one is an ordinary KeyboardInterrupt."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(SIGINT)

    loop.add_signal_handler(SIGINT, interrupt)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(SIGINT)
