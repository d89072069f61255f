"""The Socket.IO server: packets in, ordered events out, every ack sent once.

It is a python-socketio AsyncServer: `on`, `emit`, `enter_room`, `call`, namespaces and acks work as documented there.
A namespace object may offer `async handle_event(event) -> awaitable | None` and `expire_event(event)` to take whole
events, answer them by `respond`, and overlap the rest of its work (see realtime.pipeline); `begin_event(event)` to take
an event at once.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
import socketio
import structlog
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as Refused

from realtime import packets
from realtime.acceptor import Acceptor
from realtime.engine import Engine
from realtime.frames import Packet
from realtime.handshake import Handshake
from realtime.limits import DEFAULT_LIMITS, Limits
from realtime.manager import Manager, Session, encoded_packets, event_packet
from realtime.pipeline import Event, Pipeline, Pipelines
from realtime.socket import Socket
from realtime.timeouts import Timeout

SESSION_CLOSED: Final = "session:closed"
LEAVING_AT_ONCE: Final = 100
"""Sessions that leave their rooms before the loop may do something else; one in fifty rooms takes 0.1 ms."""

log = structlog.get_logger()
stock_log = logging.getLogger("socketio")


class Server(socketio.AsyncServer):
    """A Socket.IO 5 server on aiohttp; see `create_server` for its options. To be made inside the running loop."""

    def __init__(self, *, limits: Limits, on_limit: Callable[[str], None], **options: Any) -> None:
        super().__init__(
            client_manager=Manager(limits.rooms, on_limit),
            json=packets.OrjsonAdapter,
            logger=stock_log,
            engineio_logger=stock_log,
            limits=limits,
            on_limit=on_limit,
            **options,
        )
        self.manager: Manager
        self.eio: Engine
        self.path = "/socket.io/"
        self._limits = limits
        self._on_limit = on_limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: deque[tuple[Session, str]] = deque()
        self._partial: dict[Socket, tuple[packets.Incoming, list[bytes]]] = {}
        self._handshakes: dict[Socket, Handshake] = {}
        self._loop = asyncio.get_running_loop()
        self.eio.serve(self)
        timeouts = self.eio.shared.timeouts
        self._unconnected: Timeout[Socket] = timeouts.after(limits.connect_seconds, self._connect_deadline)
        self._pipelines = Pipelines(self, timeouts, limits.events_under_way)

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    def attach_to(self, app: web.Application, path: str = "/socket.io/") -> None:
        """Serve on this path of an aiohttp application."""
        self.path = path
        app.router.add_route("*", path, self.handle_request)

    async def listen(self, runner: web.AppRunner, host: str, port: int, *, backlog: int) -> asyncio.Server:
        """Listen for this server and the rest of its application, whose runner is set up.

        Any other way to serve the application works as well; this one spares a websocket the HTTP server's cost.
        Raises: OSError.
        """
        http = runner.server
        if http is None:
            raise RuntimeError("set the runner up first")
        return await self._loop.create_server(
            lambda: Acceptor(self.path, self.eio.accept, http), host, port, backlog=backlog
        )

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """Answer one HTTP request on the Socket.IO path."""
        return await self.eio.handle_request(request)

    # --- what sockets hand over -----------------------------------------------------------------------------------

    def opened(self, socket: Socket, handshake: Handshake) -> None:
        """Expect a CONNECT."""
        self._handshakes[socket] = handshake
        self._unconnected.begin(socket)

    def _connect_deadline(self, socket: Socket) -> None:
        if not any(session.connected for session in socket.sessions.values()):
            self.malformed(socket, packets.PastLimit("connect_seconds"))

    def received(self, socket: Socket, message: bytes) -> None:
        """Take one Socket.IO packet. Raises: MalformedPacket."""
        if socket in self._partial:
            raise packets.MalformedPacket("text in the middle of attachments")
        incoming = packets.decode(message, self._limits)
        if incoming.attachments:
            self._partial[socket] = (incoming, [])
        else:
            self._take(socket, incoming)

    def received_binary(self, socket: Socket, attachment: bytes) -> None:
        """Take one attachment. Raises: MalformedPacket."""
        if socket not in self._partial:
            raise packets.MalformedPacket("unexpected attachment")
        incoming, attachments = self._partial[socket]
        attachments.append(attachment)
        if len(attachments) == incoming.attachments:
            del self._partial[socket]
            self._take(socket, incoming._replace(data=packets.reconstruct(incoming.data, attachments)))

    def _take(self, socket: Socket, incoming: packets.Incoming) -> None:
        session = socket.sessions.get(incoming.namespace)
        if incoming.type == packets.CONNECT:
            if session is not None:
                raise packets.MalformedPacket("already connected")
            if len(socket.sessions) >= self._limits.namespaces:
                raise packets.PastLimit("namespaces")
            self._admit(socket, incoming.namespace, incoming.data)
        elif session is None or not session.connected:
            if incoming.type != packets.DISCONNECT:
                raise packets.MalformedPacket("not connected to this namespace")
        elif incoming.type in (packets.EVENT, packets.BINARY_EVENT):
            self._event(session, incoming)
        elif incoming.type in (packets.ACK, packets.BINARY_ACK):
            # Unasked ones pass without a log line; python-socketio keeps its counter, no callback, under 0.
            if incoming.id and incoming.id in self.manager.callbacks.get(session.sid, {}):
                self.own(self.manager.trigger_callback(session.sid, incoming.id, incoming.data))
        else:
            self._leave(session, self.reason.CLIENT_DISCONNECT)

    def malformed(self, socket: Socket, fault: packets.MalformedPacket) -> None:
        """End a connection that broke the protocol, telling it so."""
        if isinstance(fault, packets.PastLimit):
            self._on_limit(fault.limit)
        self.close_socket(socket, "PROTOCOL_ERROR", reconnect=False)

    def overrun(self, socket: Socket) -> None:
        """Cut a connection that does not read; what it missed it can ask for when it is back."""
        if not socket.cut:
            log.info("slow consumer cut", eio_sid=socket.sid)
            self._on_limit("buffered")
            socket.cut = True
            # Later: this may come in the middle of a broadcast to the room that the connection leaves by ending.
            self._loop.call_soon(lambda: self.close_socket(socket, "SLOW_CONSUMER", reconnect=True))

    def closed(self, socket: Socket, reason: str) -> None:
        """Forget a connection and all its sessions; of thousands that end in one tick, some sessions in each."""
        self.eio.forget(socket)
        self._handshakes.pop(socket, None)
        self._partial.pop(socket, None)
        self._unconnected.end(socket)
        for session in socket.sessions.values():
            if not self._leaving:
                self._loop.call_soon(self._let_leave)
            self._leaving.append((session, reason))

    def _let_leave(self) -> None:
        for _ in range(min(len(self._leaving), LEAVING_AT_ONCE)):
            self._leave(*self._leaving.popleft())
        if self._leaving:
            self._loop.call_soon(self._let_leave)

    # --- sessions -------------------------------------------------------------------------------------------------

    def _admit(self, socket: Socket, namespace: str, auth: Any) -> None:
        """Register a session at once, so that a second CONNECT finds it, and answer in a task of its own."""
        if not self._serves(namespace):
            socket.send(Packet(packets.encode_connect_error({"message": "Invalid namespace"}, namespace)))
            return
        session = Session(self.eio.generate_id(), namespace, socket)
        self.manager.add(session)
        self.own(self._connect(session, auth, self._handshakes.get(socket)))

    async def _connect(self, session: Session, auth: Any, handshake: Handshake | None) -> None:
        socket, namespace = session.socket, session.namespace
        if session.sid not in self.manager.sessions:
            return
        refusal: dict[str, Any] | None
        try:
            environ = {} if handshake is None else handshake.environ()
            accepted = await self._tell("connect", namespace, session.sid, environ, auth)
            refusal = None if accepted is not False else {"message": "Connection rejected by server"}
        except (Refused, ConnectionRefusedError) as error:
            refusal = getattr(error, "error_args", {"message": "Connection rejected by server"})
        except Exception:
            log.exception("connect handler failed")
            refusal = {"message": "INTERNAL", "data": {"code": "INTERNAL", "retryable": True}}
        if socket.closed or session.sid not in self.manager.sessions:
            self.manager.remove(session)
        elif refusal is not None:
            self.manager.remove(session)
            socket.send(Packet(packets.encode_connect_error(refusal, namespace)))
        else:
            self._unconnected.end(socket)
            self._handshakes.pop(socket, None)
            session.pipeline = Pipeline(session, self._pipelines)
            session.open(Packet(packets.encode_connect(session.sid, namespace)), *session.greeting)
            session.greeting = ()

    def _serves(self, namespace: str) -> bool:
        return namespace in self.handlers or namespace in self.namespace_handlers

    def _leave(self, session: Session, reason: str) -> None:
        """End a session: out of its rooms now, its handler told in its own task."""
        was_connected = session.connected
        if session.pipeline is not None and session.pipeline.is_busy:
            self.own(session.pipeline.drained())
        session.pipeline = None
        self.manager.remove(session)
        self.manager.callbacks.pop(session.sid, None)
        if was_connected:
            session.connected = False
            self.own(self._disconnected(session, reason))

    async def _disconnected(self, session: Session, reason: str) -> None:
        await self._tell("disconnect", session.namespace, session.sid, reason)

    async def _tell(self, event: str, namespace: str, *args: Any) -> Any:
        """Call the handler of a session's begin or end, once, with as many of the arguments as it takes."""
        handler, args = self._get_event_handler(event, namespace, args)
        if handler is None:
            namespaced, args = self._get_namespace_handler(namespace, args)
            if namespaced is None:
                return None
            handler = getattr(namespaced, f"on_{event}", None)
            if handler is None:
                return await namespaced.trigger_event(event, *args)
        result = handler(*args[: _takes(handler, len(args))])
        return await result if inspect.isawaitable(result) else result

    def close_socket(self, socket: Socket, code: str, *, reconnect: bool) -> None:
        """Say why, then end the connection; without `reconnect` a DISCONNECT keeps stock clients from coming back."""
        payload = orjson.dumps({"code": code, "reconnect": reconnect})
        for session in list(socket.sessions.values()):
            if session.connected:
                socket.send(event_packet(SESSION_CLOSED, payload, session.namespace))
                if not reconnect:
                    socket.send(Packet(packets.encode_disconnect(session.namespace)))
        socket.end(self.reason.SERVER_DISCONNECT)

    # --- events ---------------------------------------------------------------------------------------------------

    def _event(self, session: Session, incoming: packets.Incoming) -> None:
        name, *args = incoming.data
        pipeline = session.pipeline
        if pipeline is not None:
            pipeline.push(Event(session, name, args, incoming.id, self._loop.time()))
            if pipeline.is_full:
                self._on_limit("events_under_way")
                session.socket.hold()

    def roomier(self, pipeline: Pipeline) -> None:
        """A session's events leave room for more: read on, unless another session of the connection has too many."""
        socket: Socket = pipeline.session.socket
        if not any(session.pipeline is not None and session.pipeline.is_full for session in socket.sessions.values()):
            socket.release()

    def begin(self, event: Event) -> bool:
        """Take an event at once, if its namespace can."""
        handler = self.namespace_handlers.get(event.session.namespace)
        begin: Callable[[Event], bool] | None = getattr(handler, "begin_event", None)
        return begin is not None and begin(event)

    async def handle(self, event: Event) -> Any:
        """Have an event served by its namespace, or by the function registered for it."""
        session: Session = event.session
        handler = self.namespace_handlers.get(session.namespace)
        try:
            if hasattr(handler, "handle_event"):
                return await handler.handle_event(event)
            result = await self._trigger_event(event.name, session.namespace, session.sid, *event.args)
            if result is not self.not_handled:
                self._respond_with(event, result)
        except Exception:
            log.exception("event handler failed", event_name=event.name)
        return None

    def _respond_with(self, event: Event, result: Any) -> None:
        """Ack as python-socketio does: a tuple is several arguments, None is none."""
        session: Session = event.session
        arguments = list(result) if isinstance(result, tuple) else [] if result is None else [result]
        if event.answered or event.ack_id is None or not session.connected:
            return
        event.answered = True
        packet = self.packet_class(packets.ACK, namespace=session.namespace, id=event.ack_id, data=arguments)
        for part in encoded_packets(packet):
            session.send(part)

    def expire(self, event: Event) -> None:
        """Have an overdue event answered by its namespace; elsewhere nobody answers it."""
        handler = self.namespace_handlers.get(event.session.namespace)
        if hasattr(handler, "expire_event"):
            handler.expire_event(event)
        else:
            event.answered = True

    def now(self) -> float:
        """The monotonic time that events' deadlines are set by."""
        return self._loop.time()

    def respond(self, event: Event, payload: bytes) -> bool:
        """Send an event's ack, its arguments in JSON. Only the first answer counts; without an ack id none is sent."""
        if event.answered or not event.session.connected:
            return False
        event.answered = True
        if event.ack_id is not None:
            event.session.send(Packet(packets.encode_ack(event.ack_id, payload, event.session.namespace)))
        return True

    # --- python-socketio's interface ------------------------------------------------------------------------------

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """End a client's session in a namespace, telling it so; its other sessions go on."""
        session = self.manager.sessions.get(sid)
        if session is not None and session.connected and session.namespace == (namespace or "/"):
            session.send(Packet(packets.encode_disconnect(session.namespace)))
            self._leave(session, self.reason.SERVER_DISCONNECT)

    async def get_session(self, sid: str, namespace: str | None = None) -> Any:
        """What was saved for a session, a dict to begin with. Raises: KeyError when there is no such session."""
        session = self.manager.sessions[sid]
        if session.data is None:
            session.data = {}
        return session.data

    async def save_session(self, sid: str, session: Any, namespace: str | None = None) -> None:
        """Keep something for a session. Raises: KeyError when there is no such session."""
        self.manager.sessions[sid].data = session

    # --- the server's own life ------------------------------------------------------------------------------------

    def own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end; the server does not shut down before."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed", exc_info=error)

    async def shutdown(self) -> None:
        """Finish what was received, then close every connection so that clients come back elsewhere."""
        self.eio.is_draining = True
        pipelines = [session.pipeline for session in self.manager.sessions.values() if session.pipeline is not None]
        if pipelines:
            await asyncio.gather(*(pipeline.drained() for pipeline in pipelines))
        for socket in list(self.eio.sockets.values()):
            self.close_socket(socket, "SERVER_DRAINING", reconnect=True)
        while self._tasks or self._leaving:
            await (asyncio.wait(self._tasks) if self._tasks else asyncio.sleep(0))


def _takes(handler: Callable[..., Any], offered: int) -> int:
    """How many of the arguments offered a handler can be called with, the first ones."""
    signature = inspect.signature(handler)
    for count in range(offered, 0, -1):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    return offered


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a page comes from the host and port that it connects to; a proxy may have taken the TLS off."""
    return origin.partition("://")[2] == host


def create_server(
    *,
    ping_interval_ms: int = 25_000,
    ping_timeout_ms: int = 20_000,
    limits: Limits = DEFAULT_LIMITS,
    origin_allowed: Callable[[str, str], bool] = is_same_origin,
    on_limit: Callable[[str], None] = lambda limit: None,
    **options: Any,
) -> Server:
    """A Socket.IO server, to be made inside the running loop, then `attach_to` an aiohttp application.

    `limits` bound what a client may cost, `on_limit(name)` is told when one is reached. `origin_allowed(origin, host)`
    says whether a web page of an origin may connect to this host and port; by default those of the server itself.
    Other options are python-socketio's (`namespaces`, `always_connect`, …). Whoever serves the application with
    `Server.listen` gets the cheapest websockets; any other way works as well. `shutdown()` belongs before the end.
    """
    return Server(
        ping_interval_ms=ping_interval_ms,
        ping_timeout_ms=ping_timeout_ms,
        limits=limits,
        origin_allowed=origin_allowed,
        on_limit=on_limit,
        **options,
    )
