"""A connection's events: in the order sent, but not in lockstep.

Each event starts when the earlier ones have finished, except that a handler may give back an awaitable: then it has
taken its place in whatever order it keeps, and its rest overlaps with the next events of its own name. An event that
is not answered by its deadline is answered for it; the work goes on, because a deadline ends a wait, never a commit.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

DEADLINE_SECONDS: Final = 5.0
ABANDON_SECONDS: Final = 15.0
"""A handler not back so long after it began is cancelled: stores time out long before, so it hangs on a fault."""
MAX_UNDER_WAY: Final = 256
"""Events of one connection that may be under way; beyond it the server stops reading from the connection."""

log = structlog.get_logger()


class Event:
    """One event from a client. Whoever answers it first sets `answered`; nobody answers it again."""

    __slots__ = ("ack_id", "answered", "args", "due", "name", "session", "started", "task")

    def __init__(self, session: Any, name: str, args: list[Any], ack_id: int | None, due: float) -> None:
        self.session = session
        self.name = name
        self.args = args
        self.ack_id = ack_id
        self.due = due
        self.answered = False
        self.started = 0.0
        self.task: asyncio.Task[None] | None = None


Handler = Callable[[Event], Awaitable[Awaitable[None] | None]]


class Pipeline:
    """The events of one connection, each handled once.

    `handle` runs an event and answers it; `expire` answers one whose deadline has passed. Both must not raise.
    """

    __slots__ = (
        "_expire", "_handle", "_loop", "_overlapping", "_overlapping_name", "_space", "_timer", "_under_way",
        "_waiting", "_worker",
    )  # fmt: skip

    def __init__(self, handle: Handler, expire: Callable[[Event], None]) -> None:
        self._handle = handle
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Event] = deque()
        self._under_way: dict[Event, None] = {}
        self._overlapping: set[asyncio.Task[None]] = set()
        self._overlapping_name = ""
        self._worker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._space: asyncio.Event | None = None

    @property
    def is_full(self) -> bool:
        """Whether no further event may be taken for now."""
        return len(self._under_way) >= MAX_UNDER_WAY

    async def has_space(self) -> None:
        """Returns when another event may be taken."""
        while self.is_full:
            if self._space is None:
                self._space = asyncio.Event()
            self._space.clear()
            await self._space.wait()

    def push(self, event: Event) -> None:
        """Take an event; it starts in its turn."""
        self._under_way[event] = None
        self._waiting.append(event)
        if self._timer is None:
            self._timer = self._loop.call_at(event.due, self._deadline)
        if self._worker is None:
            self._worker = self._loop.create_task(self._work())

    async def _work(self) -> None:
        worker = self._worker
        try:
            while self._waiting:
                event = self._waiting.popleft()
                if self._overlapping and event.name != self._overlapping_name:
                    await asyncio.wait(self._overlapping)
                event.started, event.task = self._loop.time(), worker
                try:
                    rest = await self._handle(event)
                except asyncio.CancelledError:
                    rest = None
                    if event.task is not None or worker is None or worker.uncancel() > 0:
                        raise
                if rest is None:
                    self._done(event)
                else:
                    event.task = self._loop.create_task(self._finish(event, rest))
                    self._overlapping.add(event.task)
                    self._overlapping_name = event.name
        finally:
            self._worker = None

    async def _finish(self, event: Event, rest: Awaitable[None]) -> None:
        task = event.task
        try:
            await rest
        finally:
            self._done(event)
            if task is not None:
                self._overlapping.discard(task)

    def _done(self, event: Event) -> None:
        event.task = None
        del self._under_way[event]
        if self._space is not None:
            self._space.set()

    def _deadline(self) -> None:
        """Answer what is overdue, give up what hangs, wait for the next: one timer a connection, not one an event."""
        now = self._loop.time()
        following = now + ABANDON_SECONDS
        for event in self._under_way:
            if event.due > now:
                following = min(following, event.due)
                break
            if not event.answered:
                self._expire(event)
            if event.task is not None:
                if event.started + ABANDON_SECONDS <= now:
                    self._abandon(event)
                else:
                    following = min(following, event.started + ABANDON_SECONDS)
        self._timer = self._loop.call_at(following, self._deadline) if self._under_way else None

    def _abandon(self, event: Event) -> None:
        task, event.task = event.task, None
        if task is not None:
            log.error("handler abandoned", event_name=event.name)
            task.cancel()

    async def drained(self) -> None:
        """Wait for everything taken so far, also after the connection has gone."""
        while tasks := [*self._overlapping, *([self._worker] if self._worker else [])]:
            await asyncio.wait(tasks)

    def stop(self) -> None:
        """Answer nobody any more: the connection has gone. What was taken still takes effect."""
        for event in self._under_way:
            event.answered = True
