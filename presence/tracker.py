"""Who is here: this node's devices, told to Redis, and what other nodes have told it.

Changes of a moment are one write, a node's heartbeat is one command for all its users, and a sweep withdraws what a
node left that died. Without Redis there are only the node's own users; what could not be written is written when
Redis is back, all of it, for nobody knows what it has lost.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from presence.deadlines import Alarm
from presence.devices import GRACE_SECONDS, Devices
from presence.nodes import LIFE_SECONDS, Nodes
from presence.reader import Found, Reader
from presence.redis_state import Beat, RedisState
from presence.state import Report
from protocol.types import PresenceStatus

HEARTBEAT_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.5
"""How soon Redis is tried again; one command."""
WRITE_USERS: Final = 500
"""Users in one write; Redis serves nobody else meanwhile."""
WRITE_PAUSE_SECONDS: Final = 0.02
"""Between two writes: a burst of changes of one user is one."""
UNWRITTEN_MAX: Final = 100_000
"""Users that wait for Redis; of more than that, those who have left stay in it for as long as this node lives."""
CANCEL_SECONDS: Final = 0.5
CLOSE_SECONDS: Final = 3.0
"""Longest wait for the last words of a node that is stopping."""
SETTLE_SECONDS: Final = 1.0
"""Longest wait for a change to be written before its user is answered all the same."""

log = structlog.get_logger()
AWAY = (RedisError, OSError, TimeoutError)


class Tracker:
    """This node's view of presence. `now` is the monotonic clock of the loop, `epoch_ms` the time of day.

    `on_report(user, report)` tells of a change of this node's own, `on_written` that Redis has it; `on_nodes()` that
    other nodes have come or gone; `on_seen(moments)` when users were last seen who are not any more, in ms since the
    epoch. All are synchronous.
    """

    def __init__(
        self, redis: "Redis", prefix: str, node_id: str, *, now: Callable[[], float], epoch_ms: Callable[[], int]
    ) -> None:
        self.node_id = node_id
        self.on_report: Callable[[str, Report], None] = lambda user_id, report: None
        self.on_written: Callable[[str, Report], None] = lambda user_id, report: None
        self.on_nodes: Callable[[], None] = lambda: None
        self.on_seen: Callable[[Mapping[str, int]], None] = lambda moments: None
        self._now = now
        self._epoch_ms = epoch_ms
        self._redis = RedisState(redis, prefix, node_id)
        self._available = False
        self._devices = Devices()
        self._grace = Alarm(self._expire)
        self._versions = itertools.count(1)
        self._reports: dict[str, Report] = {}
        self._unwritten: dict[str, Report] = {}
        self._written = asyncio.Event()
        self._written.set()
        self._wake_writer = asyncio.Event()
        self._reader = Reader(self._redis)
        self._nodes = Nodes(node_id)
        self._last_beat = -LIFE_SECONDS
        self._lost_sight = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tell Redis; one that is away is tried again until it is there."""
        loops: tuple[Callable[[], Awaitable[None]], ...] = (self._beat_on, self._write_all, self._reader.run)
        self._tasks = [asyncio.create_task(self._run(loop)) for loop in loops]

    async def close(self) -> None:
        """Tell nothing more. The users stay for as long as they would after any disconnect, to come back elsewhere."""
        self._grace.stop()
        pending = set(self._tasks)
        while pending:
            # Again if need be: Python 3.11's wait_for, by which the driver sends, can swallow a cancellation.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        seen = self._epoch_ms()
        last = {
            user_id: report._replace(seen=seen)
            for user_id, report in self._reports.items()
            if report.status is not PresenceStatus.INVISIBLE
        }
        self.on_seen(dict.fromkeys(last, seen))
        with contextlib.suppress(*AWAY):
            if self._available:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._redis.beat(GRACE_SECONDS)
                    await self._write_in_batches({**self._unwritten, **last})
        await self._redis.close()

    async def _write_in_batches(self, reports: Mapping[str, Report]) -> None:
        for start in range(0, len(reports), WRITE_USERS):
            await self._write(list(itertools.islice(reports.items(), start, start + WRITE_USERS)))

    async def _run(self, loop: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await loop()
            except AWAY as error:
                self._lost(error)
            except Exception:
                log.exception("presence failed")
            await asyncio.sleep(RETRY_SECONDS)

    def _lost(self, error: BaseException) -> None:
        if self._available:
            log.warning("presence without Redis", reason=type(error).__name__)
            self._lost_sight.set()
        self._available = False
        self._written.set()

    # --- this node's devices --------------------------------------------------------------------------------------

    def connect(self, session_id: str, user_id: str, device_id: str | None) -> None:
        """A device is here from now on."""
        self._devices.connect(session_id, user_id, device_id)
        self._changed(user_id)

    def await_return(self, user_id: str) -> None:
        """A device is being let in, and `connect` will follow soon; whoever is on their way back has not left."""
        self._devices.await_return(user_id, self._now())

    def disconnect(self, session_id: str) -> None:
        """It has gone; it counts until its grace is over."""
        user_id = self._devices.disconnect(session_id, self._now())
        if user_id is not None:
            self._changed(user_id)
            self._grace.set(self._devices.next_due())

    async def set_status(self, session_id: str, status: PresenceStatus) -> None:
        """A device is in this status. Returns when other nodes can read it, at once while Redis is away."""
        user_id = self._devices.set_status(session_id, status)
        if user_id is not None:
            self._changed(user_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._written.wait()

    def local(self, user_id: str) -> Report | None:
        """This node's own word on a user; None without devices here."""
        return self._reports.get(user_id)

    def _expire(self) -> None:
        for user_id in self._devices.expire(self._now()):
            self._changed(user_id)
        self._grace.set(self._devices.next_due())

    def _changed(self, user_id: str) -> None:
        """Report a user whose devices have changed, if it shows."""
        before, merged = self._reports.get(user_id), self._devices.merged(user_id)
        if merged is None:
            if before is None:
                return
            hidden = before.status is PresenceStatus.INVISIBLE
            seen = before.seen if hidden else self._epoch_ms() - int(GRACE_SECONDS * 1000)
            report = Report(before.status, 0, next(self._versions), seen)
            del self._reports[user_id]
        else:
            status, devices = merged
            if before is not None and (before.status, before.devices) == merged:
                return
            report = Report(status, devices, next(self._versions), self._hidden_since(status, before))
            self._reports[user_id] = report
        if report.seen is not None and (before is None or report.seen != before.seen):
            self.on_seen({user_id: report.seen})
        if len(self._unwritten) < UNWRITTEN_MAX or report.devices:
            self._unwritten[user_id] = report
        self._wake()
        self.on_report(user_id, report)

    def _hidden_since(self, status: PresenceStatus, before: Report | None) -> int | None:
        """Who hides was last seen when they began to."""
        if status is not PresenceStatus.INVISIBLE or before is None:
            return None
        return before.seen if before.status is PresenceStatus.INVISIBLE else self._epoch_ms()

    # --- writing --------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._available:
            self._written.clear()
            self._wake_writer.set()

    async def _write_all(self) -> None:
        while True:
            await self._wake_writer.wait()
            self._wake_writer.clear()
            while self._unwritten and self._available:
                await self._write(list(self._unwritten.items())[:WRITE_USERS])
                if not self._unwritten:
                    self._written.set()
                await asyncio.sleep(WRITE_PAUSE_SECONDS)
            self._written.set()

    async def _write(self, batch: list[tuple[str, Report]]) -> None:
        await self._redis.report(dict(batch))
        for user_id, report in batch:
            if self._unwritten.get(user_id) is report:
                del self._unwritten[user_id]
            self.on_written(user_id, report)

    # --- others ---------------------------------------------------------------------------------------------------

    async def read(self, user_ids: Iterable[str]) -> Found | None:
        """What all nodes have said of these users; None while Redis is away."""
        return await self._reader.read(user_ids) if self._available else None

    def lives(self, node_id: str) -> bool:
        """Whether a node's word counts."""
        return self._nodes.lives(node_id, self._now())

    def heard(self, node_id: str) -> None:
        """A node has spoken."""
        self._nodes.heard(node_id, self._now())

    def last_lived(self, node_id: str) -> int | None:
        """When a dead node last lived, in ms since the epoch, if that is known."""
        return self._nodes.last_lived(node_id)

    async def _beat_on(self) -> None:
        while True:
            self._lost_sight.clear()
            try:
                self._take(await self._redis.beat())
                while (seen := await self._redis.sweep()) is not None:
                    self.on_seen(seen)
            except AWAY as error:
                self._lost(error)
                if self._now() - self._last_beat > LIFE_SECONDS and self._nodes.lost():
                    self.on_nodes()
            if not self._available:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._lost_sight.wait()

    def _take(self, beat: Beat) -> None:
        """Learn which nodes live; say everything again after a time in which it may have been lost."""
        if beat.lapsed or not self._available:
            self._unwritten = {**self._reports, **self._unwritten}
        self._available = True
        self._wake()
        self._last_beat = self._now()
        if self._nodes.shown(beat.deaths, beat.now, self._now()):
            self.on_nodes()
