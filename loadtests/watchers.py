"""One process' share of the presence scenario: groups of users who all watch each other, and what they were told."""

import asyncio
import contextlib
import resource
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection as Pipe
from typing import Any

import uvloop

from loadtests.client import CallFailed, Connection
from loadtests.pool import Answer, Failure
from loadtests.recovery import Session

GRACE_SECONDS = 5.0
"""Who is back sooner is not shown offline (wire contract, section 5)."""
SUBSCRIBE_MAX = 500
CONNECTING_AT_ONCE = 100
TRIES_MAX = 5
FLAPS_PER_SECOND = 4
CLOSE_BY_SECONDS = 0.9
"""Two events about one user are a second apart at the server; the way here may shorten that a little."""
_PRESENCE = b'42["user:'
_USER_ID = b'"userId":"'


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the run."""

    user_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Groups:
    """What one worker has to do. In each group everybody watches everybody else."""

    url: str
    groups: Sequence[Sequence[Person]]


@dataclass(slots=True)
class Told:
    """What the watchers of a phase were told, and how long those who dropped were away."""

    events: Counter[str] = field(default_factory=Counter)
    close_by: int = 0
    """Events sooner than a second after the one before, about the same user to the same watcher."""
    wrongly_offline: int = 0
    away: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Told") -> None:
        """Put those of another worker on top."""
        self.events += other.events
        self.close_by += other.close_by
        self.wrongly_offline += other.wrongly_offline
        self.away += other.away
        self.failures += other.failures


class _Watch(Connection):
    """A connection that tells what it hears of other users' presence."""

    def __init__(self, token: str, listener: "Watcher", resume: Session | None = None) -> None:
        super().__init__(token, listener, resume)
        self._watcher = listener

    def _on_text(self, data: bytes) -> None:
        if data.startswith(_PRESENCE):
            start = data.index(_USER_ID) + len(_USER_ID)
            self._watcher.on_presence(data[9 : data.index(b'"', 9)].decode(), data[start : data.index(b'"', start)])
        else:
            super()._on_text(data)


class Watcher:
    """One user: connected or away, and watching the others of the group."""

    def __init__(self, url: str, person: Person, others: Sequence[str], on_told: Callable[[str, bytes, float], None]):
        self.user_id = person.user_id.encode()
        self.is_away = False
        self.left_at = self.came_at = 0.0
        self._url = url
        self._token = person.token
        self._others = others
        self._on_told = on_told
        self._told_at: dict[bytes, float] = {}
        self._connection: Connection | None = None

    async def connect(self) -> None:
        """Come, or come back. Raises CallFailed."""
        self._connection = await _Watch.open(self._url, self._token, self)

    async def watch(self) -> None:
        """Watch the others. Raises CallFailed."""
        assert self._connection is not None
        for start in range(0, len(self._others), SUBSCRIBE_MAX):
            user_ids = self._others[start : start + SUBSCRIBE_MAX]
            await self._connection.call("presence:subscribe", {"userIds": list(user_ids)})

    async def set_status(self, status: str) -> None:
        """Be busy, say. Raises CallFailed."""
        assert self._connection is not None
        await self._connection.call("presence:set", {"status": status})

    def drop(self) -> None:
        """Lose the connection without a word."""
        self.is_away, self.left_at = True, asyncio.get_running_loop().time()
        self._told_at.clear()
        if self._connection is not None:
            self._connection.close()

    def seconds_away(self) -> float:
        """How long the last absence was, or has been so far; what is told of it may come after its end."""
        return (asyncio.get_running_loop().time() if self.is_away else self.came_at) - self.left_at

    def check_pings(self) -> None:
        """End a connection that has gone silent."""
        if self._connection is not None:
            self._connection.check_pings()

    def on_message(self, message: dict[str, Any]) -> None:
        """Nobody writes here."""

    def on_presence(self, kind: str, user_id: bytes) -> None:
        """One of the others has come, gone, or is in another status."""
        now = asyncio.get_running_loop().time()
        self._on_told(kind, user_id, now - self._told_at.get(user_id, -GRACE_SECONDS))
        self._told_at[user_id] = now


class Crew:
    """All watchers of a worker. Orders: connect, watch, blink, flap, leave; each is answered with a Told."""

    def __init__(self, pipe: Pipe, groups: Groups) -> None:
        self._pipe = pipe
        self._told = Told()
        self._watchers: dict[bytes, Watcher] = {}
        for group in groups.groups:
            ids = [person.user_id for person in group]
            for person in group:
                others = [user_id for user_id in ids if user_id != person.user_id]
                watcher = Watcher(groups.url, person, others, self._note)
                self._watchers[watcher.user_id] = watcher
        self._half = list(self._watchers.values())[::2]
        self._ramp = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def run(self) -> None:
        """Follow orders until the last. Raises EOFError when the parent has died."""
        sweeping = asyncio.create_task(self._sweep())
        phases: dict[str, Callable[[Any], Awaitable[None]]] = {
            "connect": self._connect, "watch": self._watch, "blink": self._blink, "flap": self._flap,
            "leave": self._leave,
        }  # fmt: skip
        while (order := await asyncio.to_thread(self._pipe.recv)).name != "end":
            self._told = Told()
            await phases[order.name](order.body)
            self._pipe.send(Answer(order.name, self._told))
        sweeping.cancel()

    def _note(self, kind: str, user_id: bytes, gap: float) -> None:
        self._told.events[kind] += 1
        self._told.close_by += gap < CLOSE_BY_SECONDS
        if kind == "offline":
            self._told.wrongly_offline += self._watchers[user_id].seconds_away() < GRACE_SECONDS

    async def _connect(self, _: None) -> None:
        await self._all(self._come(watcher) for watcher in self._watchers.values())

    async def _watch(self, _: None) -> None:
        await self._all(self._insist(watcher.watch) for watcher in self._watchers.values())

    async def _blink(self, seconds: float) -> None:
        """Half of them drop at once and come back as fast as they are let in."""
        for watcher in self._half:
            watcher.drop()
        await asyncio.sleep(seconds)
        await self._come_back()
        # Long enough for the grace of all to end, and for what comes a second later.
        await asyncio.sleep(GRACE_SECONDS + 2)

    async def _flap(self, seconds: float) -> None:
        """Half of them change their status several times a second."""
        for turn in range(int(seconds * FLAPS_PER_SECOND)):
            began = asyncio.get_running_loop().time()
            status = "online" if turn % 2 else "busy"
            await self._all(self._insist(partial(watcher.set_status, status)) for watcher in self._half)
            await asyncio.sleep(max(0.0, began + 1 / FLAPS_PER_SECOND - asyncio.get_running_loop().time()))
        await asyncio.sleep(2)

    async def _leave(self, seconds: float) -> None:
        """Half of them drop at once, stay away for so long, and come back."""
        for watcher in self._half:
            watcher.drop()
        await asyncio.sleep(seconds)
        await self._come_back()
        await asyncio.sleep(2)

    async def _come_back(self) -> None:
        await self._all(self._come(watcher) for watcher in self._half)
        await self._all(self._insist(watcher.watch) for watcher in self._half)

    async def _come(self, watcher: Watcher) -> None:
        await self._insist(watcher.connect)
        if watcher.is_away:
            watcher.is_away, watcher.came_at = False, asyncio.get_running_loop().time()
            self._told.away.append(watcher.seconds_away())

    async def _insist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        for _ in range(TRIES_MAX):
            try:
                await attempt()
                return
            except CallFailed as failure:
                self._told.failures[failure.code] += 1
                await asyncio.sleep(failure.retry_after)

    async def _all(self, work: Any) -> None:
        async def limited(one: Coroutine[Any, Any, None]) -> None:
            async with self._ramp:
                await one

        await asyncio.gather(*(limited(one) for one in work))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            for watcher in self._watchers.values():
                watcher.check_pings()


def work(pipe: Pipe, groups: Groups) -> None:
    """The worker process: from the first order to the last. Its failures go to the parent as text."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run() -> None:
        await Crew(pipe, groups).run()

    try:
        uvloop.run(run())
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone, and with it the reason to go on
    except Exception:
        pipe.send(Failure(traceback.format_exc()))
