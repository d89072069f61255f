"""Foreign emitters: processes that know nothing of this server, and reach its sessions through Redis.

Every node listens to their default channels by itself and serves its own sessions, so nothing goes over the bus, and
what is said while a node is not listening passes it by: at most once. The formats are in realtime.foreign.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisClusterException, RedisError

from realtime.foreign import (
    BROADCAST_CHANNEL,
    OFFICIAL,
    PYTHON,
    PYTHON_CHANNEL,
    REQUEST_CHANNEL,
    Command,
    Disconnect,
    Emit,
    ForeignReader,
    Join,
    Target,
)
from realtime.foreign_values import Dropped
from realtime.frames import Packet
from realtime.manager import Manager, Session
from realtime.socket import Socket

COMMAND_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.25
HEARTBEAT_SECONDS: Final = 0.5
SILENT_BEATS: Final = 4
"""So many heartbeats without a word from Redis, and the connection counts as lost."""
CANCEL_SECONDS: Final = 0.5
TURN_SECONDS: Final = 0.002
"""After so long everything else on the loop has its turn, however much the emitters have to say."""
MAX_JOINED: Final = 100
"""Rooms that emitters may have put one session into: each is kept for as long as the session lives."""
LOG_SECONDS: Final = 60.0
"""How often the log may tell of one kind of trouble; drops are all counted."""

log = structlog.get_logger()


class Emitters:
    """This node's ear for foreign emitters.

    `close(socket, code)` ends a connection for good. `on_outcome(source, outcome)` hears of every command: "ok", why
    it was dropped, or "failed". The client is this ear's own, and closed with it.
    """

    def __init__(
        self,
        redis: "Redis",
        manager: Manager,
        reader: ForeignReader,
        close: Callable[[Socket, str], None],
        on_outcome: Callable[[str, str], None],
    ) -> None:
        self.connected = False
        self._redis = redis
        self._manager = manager
        self._reader = reader
        self._close = close
        self._on_outcome = on_outcome
        self._silent_until: dict[tuple[str, str], float] = {}
        self._turn_ends = 0.0
        self._task: asyncio.Task[None] | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background; a Redis that is away is tried again until it is there."""
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """Listen no longer."""
        if self._task is not None:
            pending = {self._task}
            while pending:
                # Again if need be: Python 3.11's wait_for, by which the driver sends, can swallow a cancellation.
                self._task.cancel()
                _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
        self.connected = False
        await self._redis.aclose()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (RedisError, RedisClusterException, OSError) as error:
                if self._may_log("redis", type(error).__name__):
                    log.warning("foreign emitters not heard", reason=type(error).__name__)
            except Exception:
                log.exception("listening to foreign emitters failed")
            self.connected = False
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen_once(self) -> None:
        """One connection's life."""
        loop = asyncio.get_running_loop()
        # A cluster's client finds its servers by this, anew after it was closed.
        await self._redis.initialize()
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(PYTHON_CHANNEL, REQUEST_CHANNEL)
            await pubsub.psubscribe(f"{BROADCAST_CHANNEL}*")
            beat, silent = loop.time(), 0
            while True:
                message = await pubsub.get_message(timeout=HEARTBEAT_SECONDS)
                # Not by the clock: after a pause of our own there is much to read, and nothing is lost.
                silent = 0 if message is not None else silent + 1
                if silent >= SILENT_BEATS:
                    raise TimeoutError("Redis is silent")
                if message is not None:
                    await self._take(message)
                if loop.time() - beat >= HEARTBEAT_SECONDS:
                    beat = loop.time()
                    await pubsub.ping()
                # Reading what is there already does not wait, and so lets nobody else go on.
                await self._give_way()
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            await self._redis.aclose()

    async def _give_way(self) -> None:
        # Not by the loop's clock: uvloop's stands still during a turn.
        if time.monotonic() >= self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + TURN_SECONDS

    # --- commands -------------------------------------------------------------------------------------------------

    async def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "psubscribe":
            # The last of the subscriptions, which Redis answers in order.
            self.connected = True
            log.info("foreign emitters heard")
        elif message["type"] in ("message", "pmessage"):
            channel = message["channel"].decode("utf-8", "replace")
            source = PYTHON if channel == PYTHON_CHANNEL else OFFICIAL
            try:
                await self._apply(self._reader.read(channel, message["data"]))
                self._on_outcome(source, "ok")
            except Dropped as drop:
                self._on_outcome(source, drop.reason)
                if self._may_log(source, drop.reason):
                    log.warning("foreign emitter's command dropped", source=source, reason=drop.reason)
            except Exception:
                self._on_outcome(source, "failed")
                log.exception("a foreign emitter's command failed", source=source)

    def _may_log(self, source: str, reason: str) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._silent_until.get((source, reason), now):
            return False
        self._silent_until[source, reason] = now + LOG_SECONDS
        return True

    async def _apply(self, command: Command) -> None:
        """Do on this node what a command says. Raises: Dropped for a join that some session has no place for."""
        if isinstance(command, Emit):
            self._emit(command)
            return
        sessions, full = list(self._sessions(command.target)), False
        if isinstance(command, Disconnect) and sessions:
            log.info("sessions ended by a foreign emitter", sessions=len(sessions))
        for session in sessions:
            await self._give_way()
            if isinstance(command, Disconnect):
                self._close(session.socket, "DISCONNECTED")
            elif isinstance(command, Join):
                full = not self._join(session, command.rooms) or full
            else:
                for room in command.rooms:
                    self._manager.leave(session, room)
        if full:
            raise Dropped("room")

    def _emit(self, command: Emit) -> None:
        """To those that are connected by now: nothing may pile up behind a handshake."""
        packet = Packet(command.payload)
        for session in self._sessions(command.target):
            if session.connected:
                session.send(packet)

    def _join(self, session: Session, rooms: Iterable[str]) -> bool:
        """Put a session into rooms, while it has place for them; returns whether it had."""
        free = MAX_JOINED - sum(not self._reader.is_protected(room) for room in session.rooms)
        missing = [room for room in rooms if room not in session.rooms]
        for room in missing[: max(0, free)]:
            self._manager.enter(session, room)
        return len(missing) <= free

    def _sessions(self, target: Target) -> Iterator[Session]:
        """The local sessions that are meant, each once."""
        seen: set[Session] = set()
        for session in self._named(target.rooms):
            is_new = session.namespace == "/" and session not in seen
            if is_new and session.sid not in target.skip and session.rooms.isdisjoint(target.skip):
                seen.add(session)
                yield session

    def _named(self, rooms: tuple[str, ...] | None) -> Iterator[Session]:
        if rooms is None:
            yield from self._manager.sessions.values()
            return
        for room in rooms:
            alone = self._manager.sessions.get(room)
            yield from (alone,) if alone is not None else self._manager.members(room)
