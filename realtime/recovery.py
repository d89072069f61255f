"""Connection state recovery, in Socket.IO's own format: a client that comes back gets its session and what it missed.

The answer to CONNECT brings the client a `pid`, every event that can be replayed its offset as one more, last, string
argument; back after a drop, the client sends both. On whatever node: who may have the session is in Redis
(realtime.recovery_states), what was said meanwhile in the rooms' logs (realtime.recovery_log). A client whose CONNECT
says `recovery: false` gets neither.

    returning = await recovery.claim(session, auth, owner)   # the session has the old sid now
    …enter the rooms, on the bus as well; what is sent there is held until the session opens…
    replay = await recovery.read(returning, rooms, joined_ms)
    recovery.settle(returning, replay.missed)                # both raise NotRecoverable: then start_anew
    session.greeting = recovery.packets(returning)

Source: Socket.IO documentation, "Connection state recovery", and the stock JavaScript client.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from realtime.cluster import Cluster
from realtime.frames import Packet
from realtime.manager import Manager, Session
from realtime.offsets import Offset, parse_offset
from realtime.recovery_log import LOG_SECONDS
from realtime.recovery_states import AWAY_SECONDS, PID_LENGTH, TAKE_SECONDS, SessionState, SessionStates
from realtime.redis_source import RedisSource
from realtime.replay import EVIDENCE_MS, SLACK_MS, Missed, Replay, in_order, read_logs

PROBE_SECONDS: Final = 0.7
"""How long a client may take to answer a ping before its old connection counts as gone: the new one waits so long."""
PROBE_MARGIN_SECONDS: Final = 0.2
"""What another node's loop may be behind."""
READ_SECONDS: Final = 2.0
"""A Redis that takes longer is as good as away."""
READS_AT_ONCE: Final = 16
"""Clients whose logs are read at the same time, each on a connection; the others of a storm wait."""
AHEAD_MS: Final = 5_000
"""An offset from further in the future is none of ours."""
REACH_SECONDS: Final = LOG_SECONDS - 5.0
"""How far back the logs hold everything."""
MAX_EVENTS: Final = 1_000
MAX_BYTES: Final = 524_288
"""What one client is replayed at most, half of what it may leave unread; beyond it a new session reads the store."""
PID_BYTES: Final = PID_LENGTH * 3 // 4
_PID: Final = re.compile(rf"[A-Za-z0-9_-]{{{PID_LENGTH}}}")
_IS_OPEN: Final = "recovery-is-open"

log = structlog.get_logger()


class NotRecoverable(Exception):
    """The session cannot go on where it was; `outcome` says why."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@dataclass(slots=True, eq=False)
class Returning:
    """A client that is about to get its session back; with nothing `missed` known in the end, it gets a new one."""

    session: Session
    owner: str
    state: SessionState
    offset: Offset
    since_ms: int
    missed: list[Missed] | None = None


class Recovery:
    """The sessions of this node that can be recovered, and those that come to it.

    `ended(sid)` returns once a session's disconnect handler has run; `on_outcome(outcome)` counts recoveries.
    With `stores_rooms` the session's rooms and data are kept as well, for servers that know them from nowhere else.
    """

    def __init__(
        self,
        manager: Manager,
        cluster: Cluster,
        source: RedisSource,
        prefix: str,
        *,
        ping_seconds: float,
        stores_rooms: bool,
        ended: Callable[[str], Awaitable[None]],
        on_outcome: Callable[[str], None],
    ) -> None:
        self.stores_rooms = stores_rooms
        self._manager = manager
        self._cluster = cluster
        self._states = SessionStates(source.client(timeout_seconds=TAKE_SECONDS), prefix, self._state_of)
        self._claimed: dict[Session, tuple[str, SessionState]] = {}
        self._ended = ended
        self._on_outcome = on_outcome
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._probes: dict[str, asyncio.Task[None]] = {}
        # A client that hears nothing new has an old offset; it may be dead for so long before it is missed.
        self._reaches_quiet = AWAY_SECONDS + ping_seconds <= REACH_SECONDS
        cluster.on_question[_IS_OPEN] = self._is_open_here

    def start(self) -> None:
        """Begin to store."""
        self._states.start()

    async def close(self) -> None:
        """Store what is pending."""
        for task in self._probes.values():
            task.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)
        await self._states.close()

    # --- sessions that come and go --------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """A session's CONNECT is answered."""
        if session.key is not None:
            self._claimed.pop(session, None)
            self._states.opened(session.key, session)

    def changed(self, session: Session) -> None:
        """A session's rooms or data are other ones."""
        if self.stores_rooms and session.connected and session.key is not None:
            self._states.opened(session.key, session)

    def lost(self, session: Session) -> None:
        """A session's connection has gone; also one that never opened."""
        if session in self._claimed:
            self._states.restore(*self._claimed.pop(session))
        elif session.key is not None and session.connected:
            self._states.lost(session.key)
        session.key = None

    def forget(self, session: Session) -> None:
        """A session ends for good."""
        self._claimed.pop(session, None)
        if session.key is not None:
            self._states.drop(session.key)
            session.key = None

    def _state_of(self, session: Session) -> SessionState:
        rooms = list(session.rooms) if self.stores_rooms else None
        data = session.data if self.stores_rooms else None
        return SessionState(session.sid, self._cluster.node_id, self._cluster.now_ms(), rooms, data)

    # --- sessions that come back ----------------------------------------------------------------------------------

    async def claim(self, session: Session, auth: Any, owner: str) -> Returning | None:
        """Give a session that connects its pid, and the sid that it had when it is one that comes back.

        `auth` is what its CONNECT carried, `owner` whose it is by what was verified. To be called before anything is
        known under its sid. Nothing is awaited for a client that does not come back. None: a new session.
        """
        fields = auth if isinstance(auth, dict) else {}
        if fields.get("recovery") is False:
            return None
        pid = fields.get("pid")
        if pid is None:
            self._give_pid(session, owner)
            return None
        try:
            return await self._take(session, pid, fields.get("offset"), owner)
        except NotRecoverable as error:
            self._on_outcome(error.outcome)
            self._give_pid(session, owner)
            return None

    def _give_pid(self, session: Session, owner: str) -> None:
        session.key = self._states.key(owner, secrets.token_urlsafe(PID_BYTES))

    async def _take(self, session: Session, pid: Any, text: Any, owner: str) -> Returning:
        """Raises: NotRecoverable."""
        if not isinstance(pid, str) or not _PID.fullmatch(pid):
            raise NotRecoverable("malformed")
        offset = parse_offset(text)
        if text is not None and offset is None:
            raise NotRecoverable("malformed")
        key = self._states.key(owner, pid)
        try:
            state = await self._states.take(key)
        except (RedisError, OSError, TimeoutError):
            raise NotRecoverable("unavailable") from None
        if state is None:
            raise NotRecoverable("unknown")
        # From here on it is put back if it is not used.
        self._claimed[session] = key, state
        offset = offset or Offset(state.opened_ms, "", 0)
        since_ms = self._since(offset)
        if not await self._is_free(state):
            self._states.restore(*self._claimed.pop(session))
            raise NotRecoverable("open")
        await self._ended(state.sid)
        if session.sid not in self._manager.sessions:
            raise NotRecoverable("gone")
        self._manager.rename(session, state.sid)
        session.key = key
        return Returning(session, owner, state, offset, since_ms)

    def _since(self, offset: Offset) -> int:
        """From when on the client has missed something, at most. Raises: NotRecoverable."""
        now_ms = self._cluster.now_ms()
        if offset.ms > now_ms + AHEAD_MS:
            raise NotRecoverable("malformed")
        earliest = now_ms - int(REACH_SECONDS * 1000)
        if offset.ms - SLACK_MS < earliest and not self._reaches_quiet:
            raise NotRecoverable("old")
        return max(offset.ms - SLACK_MS - EVIDENCE_MS, earliest)

    async def read(self, returning: Returning, rooms: Sequence[str], joined_ms: Mapping[str, int]) -> Replay:
        """What the logs of these rooms, which the session is in by now, have for it. Raises: NotRecoverable.

        Nothing is replayed of a room from before its user joined, where `joined_ms` names when that was.
        """
        try:
            async with self._reads, asyncio.timeout(READ_SECONDS):
                # What this node said just before the session entered is on its way there.
                await self._cluster.flushed()
                logs, is_complete = await self._cluster.read_log(rooms, returning.since_ms)
        except (RedisError, OSError, TimeoutError):
            raise NotRecoverable("unavailable") from None
        if not is_complete:
            raise NotRecoverable("incomplete")
        return read_logs(logs, returning.offset, returning.session.sid, returning.session.rooms, joined_ms)

    def settle(self, returning: Returning, missed: list[Missed]) -> None:
        """Say what it is to be replayed. Raises: NotRecoverable when that is too much."""
        if len(missed) > MAX_EVENTS or sum(len(event.payload) for event in missed) > MAX_BYTES:
            raise NotRecoverable("too much")
        returning.missed = missed

    def packets(self, returning: Returning) -> tuple[Packet, ...]:
        """What goes right behind CONNECT, so that of what the session holds back nothing goes twice.

        The session is to be opened before anything else happens.
        """
        if returning.missed is None:
            return ()
        replayed = {event.offset for event in returning.missed if event.offset is not None}
        held = returning.session.held
        held[:] = [packet for packet in held if packet.offset not in replayed]
        self._on_outcome("recovered")
        return tuple(Packet(event.payload, offset=event.offset) for event in in_order(returning.missed))

    def start_anew(self, returning: Returning, error: NotRecoverable) -> None:
        """Make it a new session after all, with another sid and pid."""
        self._on_outcome(error.outcome)
        self._claimed.pop(returning.session, None)
        self._manager.rename(returning.session, self._manager.server.eio.generate_id())
        self._give_pid(returning.session, returning.owner)

    # --- is it still connected? -----------------------------------------------------------------------------------

    async def _is_free(self, state: SessionState) -> bool:
        """Whether nobody has the session any more; an old connection that does not answer at once is ended for that."""
        if state.node == self._cluster.node_id:
            if self._is_open_here([state.sid, True]):
                await asyncio.shield(self._probes[state.sid])
            return state.sid not in self._manager.sessions
        for is_first in (True, False):
            # Nobody listens to a dead node's channel; one that listens and does not answer may have it.
            answers, complete = await self._cluster.ask(f"node:{state.node}", _IS_OPEN, state.sid, is_first)
            if not any(answers):
                return complete
            if is_first:
                await asyncio.sleep(PROBE_SECONDS + PROBE_MARGIN_SECONDS)
        return False

    def _is_open_here(self, fields: list[Any]) -> bool:
        """Whether this node has the session; if asked to, it has it give a sign of life, and ends it without."""
        sid, probe = fields
        session = self._manager.sessions.get(sid)
        if session is None:
            return False
        if probe and sid not in self._probes:
            self._probes[sid] = asyncio.get_running_loop().create_task(self._probe(session))
        return True

    async def _probe(self, session: Session) -> None:
        try:
            if not await session.socket.answers_within(PROBE_SECONDS):
                self._states.release(session.key or "")
                session.key = None
                session.socket.end("recovered by another connection")
        finally:
            del self._probes[session.sid]
