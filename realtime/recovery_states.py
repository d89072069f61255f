"""What Redis keeps of each session for the time after its connection is lost.

A session's state is under its owner's name and its pid, which is a secret of client and server, so that who cannot say
both never reads it. It is kept alive while the session is, outlives its node, and can be taken once. Nobody waits for
a write: what Redis loses costs a client no more than its recovery.
"""

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

import msgpack
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from realtime.manager import Session

PID_LENGTH: Final = 24
"""144 bits in base64: nobody guesses one."""
AWAY_SECONDS: Final = 120.0
"""How long after its connection was lost a session can be recovered (wire contract, section 6)."""
KEEP_SECONDS: Final = 40.0
"""How often a live session's state is kept alive."""
LIVE_SECONDS: Final = 170.0
"""What a live session's state has left then: a node that dies just before the next time leaves two minutes of it."""
TAKE_SECONDS: Final = 1.0
"""A Redis that takes longer is as good as away: the client gets a new session."""
MAX_PENDING: Final = 50_000
"""Writes that may wait, some 10 MB; what does not fit is made good when the session is kept alive."""
GATHER_SECONDS: Final = 0.05
"""What is no hurry waits so long for more: a write in a batch costs a fraction of one by itself."""
BATCH: Final = 500
"""Writes in one pipeline: Redis serves nobody else meanwhile."""

log = structlog.get_logger()


class SessionState(NamedTuple):
    """One session as it was last stored. `rooms` and `data` only where nobody else knows them."""

    sid: str
    node: str
    opened_ms: int
    rooms: list[str] | None = None
    data: Any = None


class SessionStates:
    """The states of this node's sessions; those in `live` are kept alive, `state_of(session)` being what is stored."""

    def __init__(self, redis: "Redis", prefix: str, state_of: Callable[[Session], SessionState]) -> None:
        self.live: dict[str, Session] = {}
        self._redis = redis
        self._prefix = f"{prefix}:recovery:"
        self._state_of = state_of
        self._pending: dict[str, tuple[Any, ...]] = {}
        self._takes: list[tuple[str, asyncio.Future[SessionState | None]]] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def key(self, owner: str, pid: str) -> str:
        """Where the state of a pid is, if it is this owner's."""
        return f"{self._prefix}{owner}:{pid}"

    def start(self) -> None:
        """Begin to write."""
        self._tasks = [asyncio.create_task(self._write_all()), asyncio.create_task(self._keep_all())]

    async def close(self) -> None:
        """Write what is pending, if that does not take long."""
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                await self._flush()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("session states not stored", reason=type(error).__name__)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()

    # --- writing --------------------------------------------------------------------------------------------------

    def opened(self, key: str, session: Session) -> None:
        """Store a session, or what has changed of it, while it lives. Never waits, like the others below."""
        self.live[key] = session
        self._store(key)

    def _store(self, key: str) -> None:
        state = self._state_of(self.live[key])
        try:
            packed = msgpack.packb(state)
        except (TypeError, ValueError, OverflowError):
            log.warning("session data cannot be stored")
            packed = msgpack.packb(state._replace(data=None))
        self._write(key, "SET", key, packed, "PX", _ms(LIVE_SECONDS))

    def release(self, key: str) -> None:
        """Somebody else has taken it."""
        self.live.pop(key, None)

    def lost(self, key: str) -> None:
        """Its connection is lost: its time runs."""
        self.live.pop(key, None)
        pending = self._pending.get(key)
        if pending is not None and pending[0] == "SET":
            self._write(key, *pending[:-1], _ms(AWAY_SECONDS))
            # Its client may be back sooner than the rest is gathered.
            self._wake.set()
        else:
            self._write(key, "PEXPIRE", key, _ms(AWAY_SECONDS))

    def drop(self, key: str) -> None:
        """It has ended for good."""
        self.live.pop(key, None)
        self._write(key, "UNLINK", key)
        self._wake.set()

    def restore(self, key: str, state: SessionState) -> None:
        """Put back what was taken and not used, unless there is something new."""
        self._write(key, "SET", key, msgpack.packb(state), "NX", "PX", _ms(AWAY_SECONDS))

    def _write(self, key: str, *command: Any) -> None:
        if key not in self._pending and len(self._pending) >= MAX_PENDING:
            return
        if not self._pending:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._wake.set)
        # What a key is to be is said by the last word on it.
        self._pending[key] = command

    async def _write_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._flush()
            except (RedisError, OSError) as error:
                log.warning("session states not stored", reason=type(error).__name__)
            except Exception:
                log.exception("session states not stored")

    async def _flush(self) -> None:
        """What has gathered, in pipelines; takes behind writes. Raises: RedisError, OSError; nothing is tried again."""
        while self._pending or self._takes:
            writes = list(islice(self._pending.items(), BATCH))
            for key, _ in writes:
                del self._pending[key]
            takes, self._takes = self._takes[:BATCH], self._takes[BATCH:]
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for _, command in writes:
                        pipeline.execute_command(*command)
                    for key, _ in takes:
                        pipeline.getdel(key)
                    replies = await pipeline.execute(raise_on_error=False)
                for (key, taken), reply in zip(takes, replies[len(writes) :], strict=True):
                    self._took(key, taken, reply)
            except BaseException as error:
                for _, taken in takes:
                    if not taken.done():
                        taken.set_exception(ConnectionError(type(error).__name__))
                raise

    def _took(self, key: str, taken: "asyncio.Future[SessionState | None]", reply: Any) -> None:
        if isinstance(reply, Exception):
            if not taken.done():
                taken.set_exception(reply)
            return
        state = SessionState(*msgpack.unpackb(reply)) if reply is not None else None
        if not taken.done():
            taken.set_result(state)
        elif state is not None:
            # Whoever asked waits no more.
            self.restore(key, state)

    async def _keep_all(self) -> None:
        """Keep live sessions' states alive, and write again those that Redis has lost."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            keys = list(self.live)
            for start in range(0, len(keys), BATCH):
                try:
                    await self._keep(keys[start : start + BATCH])
                except (RedisError, OSError) as error:
                    log.warning("session states not kept alive", reason=type(error).__name__)
                except Exception:
                    log.exception("session states not kept alive")

    async def _keep(self, keys: list[str]) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.pexpire(key, _ms(LIVE_SECONDS))
            kept = await pipeline.execute(raise_on_error=False)
        for key, is_there in zip(keys, kept, strict=True):
            if not is_there and key in self.live:
                self._store(key)

    # --- reading --------------------------------------------------------------------------------------------------

    async def take(self, key: str) -> SessionState | None:
        """The state, which nobody can take again; None for none. Raises: RedisError, OSError, TimeoutError."""
        taken: asyncio.Future[SessionState | None] = asyncio.get_running_loop().create_future()
        self._takes.append((key, taken))
        self._wake.set()
        async with asyncio.timeout(TAKE_SECONDS):
            return await taken


def pid_of(key: str) -> str:
    """The pid at the end of a key."""
    return key[-PID_LENGTH:]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
