"""A connection's events: in the order sent, but not in lockstep.

Each event starts when the earlier ones have finished, except that a handler may give back an awaitable: then it has
taken its place in whatever order it keeps, and its rest overlaps with the next events of its own name. An event that
is not answered by its deadline is answered for it; the work goes on, because a deadline ends a wait, never a commit.

An event that can be taken without a wait is, in the call that brought it: it costs no task, no timer and no future.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any, Final, Protocol

import structlog

from realtime.timeouts import Timeout, Timeouts

DEADLINE_SECONDS: Final = 5.0
ABANDON_SECONDS: Final = 15.0
"""A handler not back so long after it began is cancelled: stores time out long before, so it hangs on a fault."""

log = structlog.get_logger()


class Event:
    """One event from a client. Whoever answers it first sets `answered`; nobody answers it again.

    `received` is monotonic seconds. `finish()` is called once, when nothing of it is left to do.
    """

    __slots__ = ("ack_id", "answered", "args", "name", "pipeline", "received", "session", "task")

    def __init__(self, session: Any, name: str, args: list[Any], ack_id: int | None, received: float) -> None:
        self.session = session
        self.name = name
        self.args = args
        self.ack_id = ack_id
        self.received = received
        self.answered = False
        self.pipeline: Pipeline | None = None
        self.task: asyncio.Task[None] | None = None

    def finish(self) -> None:
        """The event is done with."""
        if self.pipeline is not None:
            pipeline, self.pipeline = self.pipeline, None
            pipeline.finished(self)


class Server(Protocol):
    """What serves events; nothing here raises."""

    def begin(self, event: Event) -> bool:
        """Take an event at once, if that needs no wait; what has taken it calls `finish`. Nothing is done else."""

    async def handle(self, event: Event) -> Awaitable[None] | None:
        """Serve and answer an event; what is returned may overlap with later ones of its name."""

    def expire(self, event: Event) -> None:
        """Answer an event whose deadline has passed."""

    def roomier(self, pipeline: "Pipeline") -> None:
        """A full pipeline has room again."""


class Pipelines:
    """What all pipelines of a server share: who serves events, and the deadlines."""

    def __init__(
        self,
        server: Server,
        timeouts: Timeouts,
        events_under_way: int,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        abandon_seconds: float = ABANDON_SECONDS,
    ) -> None:
        self.server = server
        self.events_under_way = events_under_way
        self.due: Timeout[Event] = timeouts.after(deadline_seconds, self._expire)
        self.hanging: Timeout[Event] = timeouts.after(abandon_seconds, _abandon)

    def _expire(self, event: Event) -> None:
        if not event.answered:
            self.server.expire(event)


def _abandon(event: Event) -> None:
    task, event.task = event.task, None
    if task is not None:
        log.error("handler abandoned", event_name=event.name)
        task.cancel()


class Pipeline:
    """The events of one session, each handled once."""

    __slots__ = (
        "_overlapping",
        "_overlapping_name",
        "_quiet",
        "_shared",
        "_under_way",
        "_waiting",
        "_worker",
        "session",
    )

    def __init__(self, session: Any, shared: Pipelines) -> None:
        self.session = session
        self._shared = shared
        self._under_way = 0
        self._overlapping = 0
        self._overlapping_name = ""
        # None while empty: most sessions are idle most of the time.
        self._waiting: deque[Event] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._quiet: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no further event may be taken for now."""
        return self._under_way >= self._shared.events_under_way

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return self._under_way > 0

    def push(self, event: Event) -> None:
        """Take an event; it starts in its turn, now if that has come."""
        event.pipeline = self
        self._under_way += 1
        self._shared.due.begin(event)
        if self._worker is None and self._begin(event):
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(event)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def _begin(self, event: Event) -> bool:
        """Try to take an event at once; it may then overlap with the next ones of its name."""
        if self._overlapping and event.name != self._overlapping_name:
            return False
        self._overlapping += 1
        self._overlapping_name = event.name
        if self._shared.server.begin(event):
            return True
        self._overlapping -= 1
        return False

    async def _work(self) -> None:
        worker = self._worker
        try:
            while self._waiting:
                event = self._waiting.popleft()
                while self._overlapping and event.name != self._overlapping_name:
                    await self._until_quiet()
                if not self._begin(event):
                    await self._handle(event, worker)
        finally:
            self._worker = self._waiting = None

    async def _handle(self, event: Event, worker: asyncio.Task[None] | None) -> None:
        self._overlapping += 1
        self._overlapping_name = event.name
        event.task = worker
        self._shared.hanging.begin(event)
        rest = None
        try:
            rest = await self._shared.server.handle(event)
        except asyncio.CancelledError:
            if event.task is not None or worker is None or worker.uncancel() > 0:
                raise
        finally:
            if rest is None:
                event.finish()
        if rest is not None:
            event.task = asyncio.get_running_loop().create_task(_finish(event, rest))

    def finished(self, event: Event) -> None:
        """An event is done with."""
        was_full = self.is_full
        event.task = None
        self._under_way -= 1
        self._overlapping -= 1
        self._shared.due.end(event)
        self._shared.hanging.end(event)
        if not self._overlapping and self._quiet is not None:
            self._quiet.set_result(None)
            self._quiet = None
        if was_full:
            self._shared.server.roomier(self)

    async def _until_quiet(self) -> None:
        """Returns when nothing that was begun is left."""
        if self._quiet is None:
            self._quiet = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._quiet)

    async def drained(self) -> None:
        """Wait for everything taken so far, also after the connection has gone."""
        while self._under_way:
            if self._worker is not None:
                await asyncio.wait([self._worker])
            elif self._overlapping:
                await self._until_quiet()


async def _finish(event: Event, rest: Awaitable[None]) -> None:
    try:
        await rest
    finally:
        event.finish()
