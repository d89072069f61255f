"""The Socket.IO namespace: connect, event → dispatch → ack, disconnect."""

from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Final

import socketio
import structlog
from socketio.exceptions import ConnectionRefusedError as Refused

from auth.caller import Caller
from handlers.routes import ROUTES
from handlers.services import Services
from handlers.session import authenticate, open_session
from protocol.errors import DeadlineExceeded, ParleyError, Unavailable
from protocol.events import EventFailed
from protocol.replies import AnyReply
from protocol.resources import Failure
from realtime.manager import Session, event_packet
from realtime.pipeline import DEADLINE_SECONDS, Event
from realtime.recovery import Recovery
from realtime.server import Server
from server.dispatch import as_parley_error, dispatch, dispatch_at_once, failure_json, success_json
from server.telemetry import Metrics

DEVICE_ID_MAX: Final = 128
EVENT_NAME_SHOWN_MAX: Final = 100

log = structlog.get_logger()


class Gateway(socketio.AsyncNamespace):
    """Namespace `/`: verified callers in, answers out. Every event is answered exactly once."""

    def __init__(self, services: Services, metrics: Metrics, limits: dict[str, int], recovery: Recovery) -> None:
        super().__init__("/")
        self.server: Server
        self._recovery = recovery
        self._services = services
        self._metrics = metrics
        self._limits = limits
        self._store_away_until = 0.0

    async def trigger_event(self, event: str, *args: Any) -> Any:
        """What the Socket.IO server tells a namespace: only these two, whatever a client calls its events."""
        if event == "connect":
            session_id, _, auth = args
            await self._connect(session_id, auth)
        elif event == "disconnect":
            self._services.connections.closed(args[0])
            self._services.tracker.disconnect(args[0])
            self._services.typing.disconnected(args[0])
            self._metrics.connections.dec()

    # --- connecting -----------------------------------------------------------------------------------------------

    async def _connect(self, session_id: str, auth: Any) -> None:
        try:
            fields = auth if isinstance(auth, dict) else {}
            verified = await authenticate(fields.get("token"), self._services)
            session = self.server.manager.sessions.get(session_id)
            if session is None:
                return  # The client has gone meanwhile.
            returning = await self._recovery.claim(session, fields, verified.user_id)
            session_id = session.sid
            if session_id not in self.server.manager.sessions:
                return
            caller = session.data = replace(verified, session_id=session_id)
            ready = await open_session(caller, session_id, _device_id(fields), self._limits, self._services, returning)
            session_id = session.sid
        except Exception as error:
            self._services.connections.closed(session_id)
            refusal = as_parley_error(error, "connect")
            self._metrics.handshakes.labels(refusal.code).inc()
            raise Refused(refusal.message, _refusal_data(refusal)) from error
        replayed = self._recovery.packets(returning) if returning is not None else ()
        session.greeting = (*replayed, event_packet(ready.wire_name, ready.wire_json()))
        self._metrics.handshakes.labels("ok").inc()
        if session_id in self.server.manager.sessions:
            # Else the client has gone meanwhile, and no disconnect will be told.
            self._metrics.connections.inc()

    # --- events ---------------------------------------------------------------------------------------------------

    def begin_event(self, event: Event) -> bool:
        """Serve an event at once, if it needs no wait."""
        return dispatch_at_once(
            event.name, event.args, event.session.data, self._services, partial(self._answered, event)
        )

    def _answered(self, event: Event, outcome: AnyReply | Coroutine[Any, Any, AnyReply] | Exception) -> None:
        """What came of an event that was served at once."""
        if isinstance(outcome, Exception):
            self._fail(event, as_parley_error(outcome, event.name))
        elif isinstance(outcome, AnyReply):
            self._succeed(event, outcome)
        else:
            self.server.own(self._complete(event, outcome))
            return
        event.finish()

    async def _complete(self, event: Event, rest: Awaitable[AnyReply]) -> None:
        try:
            await self._finish(event, rest)
        finally:
            event.finish()

    async def handle_event(self, event: Event) -> Awaitable[None] | None:
        """Serve and answer one event; what it returns may overlap with the next ones of its name."""
        caller: Caller = event.session.data
        try:
            reply = await dispatch(event.name, event.args, caller, self._services)
        except ParleyError as error:
            self._fail(event, error)
            return None
        if isinstance(reply, AnyReply):
            self._succeed(event, reply)
            return None
        return self._finish(event, reply)

    async def _finish(self, event: Event, rest: Awaitable[AnyReply]) -> None:
        try:
            self._succeed(event, await rest)
        except Exception as error:
            self._fail(event, as_parley_error(error, event.name))

    def expire_event(self, event: Event) -> None:
        """The deadline has passed: answer for the handler, which goes on; while the store is away, that is why."""
        store_is_away = self.server.now() < self._store_away_until
        self._fail(event, Unavailable() if store_is_away else DeadlineExceeded())

    def _succeed(self, event: Event, reply: AnyReply) -> None:
        if self.server.respond(event, success_json(reply)):
            self._measure(event, "ok")

    def _fail(self, event: Event, error: ParleyError) -> None:
        if not self.server.respond(event, failure_json(error)):
            return
        self._measure(event, error.code)
        if isinstance(error, Unavailable):
            self._store_away_until = self.server.now() + DEADLINE_SECONDS
        if event.ack_id is None:
            session: Session = event.session
            shown = event.name[:EVENT_NAME_SHOWN_MAX].encode("utf-8", "replace").decode()
            failed = EventFailed(event=shown, error=Failure.model_validate(error.as_wire()))
            session.send(event_packet(failed.wire_name, failed.wire_json()))

    def _measure(self, event: Event, outcome: str) -> None:
        self._metrics.answered(
            event.name if event.name in ROUTES else "unknown", outcome, self.server.now() - event.received
        )


def _device_id(fields: dict[str, Any]) -> str | None:
    device_id = fields.get("deviceId")
    if not isinstance(device_id, str) or not 0 < len(device_id) <= DEVICE_ID_MAX or not device_id.isprintable():
        return None
    return device_id


def _refusal_data(error: ParleyError) -> dict[str, Any]:
    """The `data` of a connect_error: code, retryable, retryAfterMs."""
    wire = error.as_wire()
    del wire["message"]
    return wire
