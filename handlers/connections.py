"""The sessions of this node, by whose token and until when, and those that the user has on other nodes."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from auth.caller import Caller
from auth.expiry import ExpirySchedule
from handlers.delivery import user_name
from protocol.events import SessionExpiring
from realtime.cluster import Cluster
from realtime.manager import Manager, Session, event_packet
from realtime.socket import Socket

TICK_SECONDS: Final = 1.0
"""An expired session ends within two of these, well inside the 5 s that are promised."""
LISTED_MAX: Final = 1_000
"""Sessions of one user that a node tells another of: far more than devices, and a message of 80 kB."""
_LIST: Final = "sessions"
_END: Final = "end-session"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Connection:
    """One of a user's sessions, on any node."""

    session_id: str
    device_id: str | None
    connected_at: datetime


class Connections:
    """Opens, renews and ends sessions.

    Other nodes are asked on the user's channel, to which exactly those listen that have a device of theirs: there is
    no list that could outlive a node that died. `close(socket, code)` ends a connection for good and says why.
    `clock` tells how long a token is good for, once, when it comes; from then on `monotonic` counts.
    """

    def __init__(
        self,
        manager: Manager,
        cluster: Cluster,
        close: Callable[[Socket, str], None],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._cluster = cluster
        self._close = close
        self._clock = clock
        self._monotonic = monotonic
        self.ended = 0
        """Sessions, since the start."""
        self._open: dict[str, Connection] = {}
        self._expiries = ExpirySchedule(monotonic())
        self._task: asyncio.Task[None] | None = None
        cluster.on_question[_LIST] = self._list_for_other
        cluster.on_question[_END] = self._end_for_other

    # --- one session ------------------------------------------------------------------------------------------------

    def opened(self, session_id: str, device_id: str | None) -> None:
        """A session begins, unless it has gone meanwhile. `closed` must follow."""
        session = self._manager.sessions.get(session_id)
        if session is not None:
            self._open[session_id] = Connection(session_id, device_id, self._clock())
            self.renew(session.data)

    def closed(self, session_id: str) -> None:
        """A session has ended."""
        self.ended += 1
        self._open.pop(session_id, None)
        self._expiries.drop(session_id)

    def renew(self, caller: Caller) -> None:
        """Let a session go on as this caller, until their token expires."""
        session = self._session(caller.session_id or "")
        if session is None:
            return
        session.data = caller
        seconds_left = (caller.expires_at - self._clock()).total_seconds()
        if self._expiries.set(session.sid, self._monotonic(), seconds_left):
            self._warn(session.sid)

    def end(self, session_id: str, code: str) -> None:
        """End a session of this node for good, telling it why."""
        session = self._session(session_id)
        if session is not None:
            log.info("session ended", code=code, session_id=session_id, user_id=session.data.user_id)
            self._close(session.socket, code)

    def callers(self, user_ids: Collection[str], token_ids: Collection[str]) -> list[Caller]:
        """Who is connected here as one of these users, or by one of these tokens."""
        sessions = [session for user_id in user_ids for session in self._manager.members(user_name(user_id))]
        callers = {session.sid: session.data for session in sessions if session.sid in self._open}
        for session_id in self._open if token_ids else ():
            session = self._session(session_id)
            if session is not None and session.data.token_id in token_ids:
                callers[session_id] = session.data
        return list(callers.values())

    def _session(self, session_id: str) -> Session | None:
        """An open session; None also for one whose end `closed` has not told yet."""
        return self._manager.sessions.get(session_id) if session_id in self._open else None

    # --- expiry -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look at the time."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Warn and end those whose moment has come."""
        for session_id, is_end in list(self._expiries.pass_to(self._monotonic())):
            if is_end:
                self.end(session_id, "TOKEN_EXPIRED")
            else:
                self._warn(session_id)

    def _warn(self, session_id: str) -> None:
        session = self._session(session_id)
        if session is not None:
            expiring = SessionExpiring(expires_at=session.data.expires_at)
            session.send(event_packet(expiring.wire_name, expiring.wire_json()))

    # --- all sessions of a user -------------------------------------------------------------------------------------

    async def of_user(self, user_id: str) -> list[Connection]:
        """A user's sessions, the latest first; those on nodes that do not answer within 1 s are missing."""
        answers, _ = await self._cluster.ask(user_name(user_id), _LIST, user_id)
        elsewhere = [_from_bus(fields) for answer in answers for fields in answer]
        return sorted(self._here(user_id) + elsewhere, key=lambda connection: connection.connected_at, reverse=True)

    async def end_elsewhere(self, user_id: str, session_id: str, code: str) -> bool | None:
        """End a user's session on another node; False when there is none, None when not all nodes could be asked."""
        answers, complete = await self._cluster.ask(user_name(user_id), _END, user_id, session_id, code)
        return True if any(answers) else False if complete else None

    def is_here(self, user_id: str, session_id: str) -> bool:
        """Whether this is a session of the user's on this node."""
        session = self._session(session_id)
        return session is not None and session.data.user_id == user_id

    def _here(self, user_id: str) -> list[Connection]:
        sessions = self._manager.members(user_name(user_id))
        return [self._open[session.sid] for session in sessions if session.sid in self._open][-LISTED_MAX:]

    def _list_for_other(self, fields: list[Any]) -> list[Any]:
        return [_for_bus(connection) for connection in self._here(fields[0])]

    def _end_for_other(self, fields: list[Any]) -> bool:
        user_id, session_id, code = fields
        found = self.is_here(user_id, session_id)
        if found:
            # Later: ending the last device of a user here ends the subscription that this answer belongs to.
            asyncio.get_running_loop().call_soon(self.end, session_id, code)
        return found


def _for_bus(connection: Connection) -> list[Any]:
    return [connection.session_id, connection.device_id, connection.connected_at.timestamp()]


def _from_bus(fields: list[Any]) -> Connection:
    session_id, device_id, connected_at = fields
    return Connection(session_id, device_id, datetime.fromtimestamp(connected_at, UTC))
