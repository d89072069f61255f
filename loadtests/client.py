"""One Socket.IO connection over websocket: calls with acks, live messages, and nothing else.

Source: Socket.IO protocol 5 over Engine.IO protocol 4; the events are those of the wire contract.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from loadtests.recovery import Session, credentials
from loadtests.websocket_client import HandshakeRefused, WebSocket

CONNECT_SECONDS = 30.0
"""From the first byte to `session:ready`: a server that takes thousands of handshakes at once may be this slow."""
CALL_SECONDS = 15.0
"""Above the server's own deadline of 5 s, so that its answer is heard."""

_MESSAGE = b'42["message:received",'
_PATH = "/socket.io/?EIO=4&transport=websocket"

Reply = dict[str, Any]


class CallFailed(Exception):
    """No success: refused by the server, or no connection, or no answer.

    `code` is the contract's, SERVER_BUSY and SERVER_DRAINING of a refused handshake among them, or one of ours:
    CONNECTION_LOST, NO_ANSWER, UNREACHABLE, HTTP_<status>, PROTOCOL.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = True, retry_after: float = 0.0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after

    @classmethod
    def from_wire(cls, error: object) -> "CallFailed":
        """Of the `error` object of an ack, or the `data` of a connect_error."""
        fields = error if isinstance(error, dict) else {}
        return cls(
            str(fields.get("code", "PROTOCOL")),
            str(fields.get("message", "no reason given")),
            retryable=fields.get("retryable") is True,
            retry_after=float(fields.get("retryAfterMs") or 0) / 1000,
        )

    @classmethod
    def from_refusal(cls, refusal: HandshakeRefused) -> "CallFailed":
        """Of an HTTP answer; its body's `retryAfterMs` is more exact than the whole seconds of `Retry-After`."""
        try:
            fields = orjson.loads(refusal.body)
        except orjson.JSONDecodeError:
            fields = None
        fields = fields if isinstance(fields, dict) else {}
        wait = fields.get("retryAfterMs")
        return cls(
            str(fields.get("code") or f"HTTP_{refusal.status}"),
            str(refusal),
            retryable=refusal.status in (429, 500, 502, 503, 504),
            retry_after=wait / 1000 if isinstance(wait, int | float) else refusal.retry_after,
        )


class Listener(Protocol):
    """Who hears what a connection receives by itself."""

    def on_message(self, message: dict[str, Any]) -> None:
        """A `message:received`, in the order of arrival."""


class Connection:
    """A connection after its handshake, made by `open`.

    `closed` ends with the reason once the connection has ended; then every waiting call has failed. `session` is
    what a later connection may `resume`, None when the server offers no recovery; `recovered` whether this one did.
    """

    def __init__(self, token: str, listener: Listener, resume: Session | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[CallFailed] = loop.create_future()
        self.session: Session | None = None
        self.recovered = False
        self._resume = resume
        self._ready: asyncio.Future[Reply] = loop.create_future()
        self._token = token
        self._listener = listener
        self._waiting: dict[int, Callable[[Reply], None]] = {}
        self._failing: dict[int, asyncio.Future[Reply]] = {}
        self._next_id = 0
        self._socket: WebSocket | None = None
        self._ending: CallFailed | None = None
        self._heard_at = loop.time()
        self._silence_seconds = CONNECT_SECONDS

    @classmethod
    async def open(cls, url: str, token: str, listener: Listener, resume: Session | None = None) -> "Connection":
        """Connect to the server at `url` and wait for `session:ready`, going on with an earlier session if it can.

        Live messages may reach the listener before this returns. Raises CallFailed.
        """
        self = cls(token, listener, resume)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                # Named before it opens: the first packet may come together with the end of the handshake.
                self._socket = WebSocket(url.rstrip("/") + _PATH, self._on_text, self._on_close)
                await self._socket.open()
                waits: list[asyncio.Future[Any]] = [self.closed, self._ready]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except HandshakeRefused as refusal:
            raise CallFailed.from_refusal(refusal) from None
        except TimeoutError:
            self.close()
            raise CallFailed("NO_ANSWER", f"no session within {CONNECT_SECONDS:.0f} s") from None
        except OSError as fault:
            raise CallFailed("UNREACHABLE", fault.strerror or str(fault)) from None
        except BaseException:
            self.close()
            raise
        if self.closed.done():
            raise self.closed.result()
        return self

    async def call(self, event: str, payload: dict[str, Any]) -> Reply:
        """Emit and wait for the ack's fields. Raises CallFailed; a cancelled wait leaves the event to take effect."""
        if self.closed.done():
            raise self.closed.result()
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        ack_id = self.emit(event, payload, lambda reply: None if future.done() else future.set_result(reply))
        self._failing[ack_id] = future
        try:
            async with asyncio.timeout(CALL_SECONDS):
                reply = await future
        except TimeoutError:
            raise CallFailed("NO_ANSWER", f"{event} was not acknowledged within {CALL_SECONDS:.0f} s") from None
        finally:
            self._waiting.pop(ack_id, None)
            self._failing.pop(ack_id, None)
        if reply.get("success") is not True:
            raise CallFailed.from_wire(reply.get("error"))
        return reply

    def emit(self, event: str, payload: dict[str, Any], on_ack: Callable[[Reply], None]) -> int:
        """Write an event at once; `on_ack` gets the ack's only argument, or is never called. Returns the ack id."""
        ack_id = self._next_id
        self._next_id += 1
        self._waiting[ack_id] = on_ack
        if self._socket is not None:
            self._socket.send(b"42%d%b" % (ack_id, orjson.dumps([event, payload])))
        return ack_id

    def pause(self) -> None:
        """Stop reading what the server sends, as a stalled client does; idempotent."""
        if self._socket is not None:
            self._socket.pause()

    def resume(self) -> None:
        """Read on; idempotent."""
        if self._socket is not None:
            self._socket.resume()

    def check_pings(self) -> None:
        """End the connection when the server's ping is overdue, as Engine.IO asks; to be called now and then."""
        if asyncio.get_running_loop().time() - self._heard_at > self._silence_seconds:
            self._end(CallFailed("PING_TIMEOUT", f"no ping for {self._silence_seconds:.0f} s"))

    def close(self) -> None:
        """End the connection; idempotent."""
        if self._socket is not None:
            self._socket.abort()

    def _on_text(self, data: bytes) -> None:
        try:
            if data.startswith(_MESSAGE):
                arguments = orjson.loads(data[2:])
                self._note_offset(arguments)
                self._listener.on_message(arguments[1])
            elif data[:2] == b"43":
                self._on_ack(data)
            else:
                self._on_other(data)
        except (orjson.JSONDecodeError, ValueError, LookupError, TypeError, AttributeError) as fault:
            self._end(CallFailed("PROTOCOL", f"the server sent what is no Socket.IO packet ({type(fault).__name__})"))

    def _on_ack(self, data: bytes) -> None:
        start = data.index(b"[")
        on_ack = self._waiting.pop(int(data[2:start]), None)
        if on_ack is not None:
            on_ack(orjson.loads(data[start:])[0])

    def _on_other(self, data: bytes) -> None:
        kind = data[:1]
        if kind == b"2":
            self._heard_at = asyncio.get_running_loop().time()
            self._send(b"3" + data[1:])
        elif kind == b"0":
            # From here on the server counts, too, however long it took to answer.
            self._heard_at = asyncio.get_running_loop().time()
            offer = orjson.loads(data[1:])
            self._silence_seconds = (offer["pingInterval"] + offer["pingTimeout"]) / 1000
            self._send(b"40" + orjson.dumps(credentials(self._token, self._resume)))
        elif data[:2] == b"40":
            self._on_connected(orjson.loads(data[2:]))
        elif kind == b"1" or data[:2] == b"41":
            self._end(CallFailed("DISCONNECTED", "the server ended the session"))
        elif data[:2] == b"44":
            self._end(CallFailed.from_wire(orjson.loads(data[2:]).get("data")))
        elif data.startswith(b'42["session:ready",') and not self._ready.done():
            self._ready.set_result(orjson.loads(data[2:])[1])
        elif data.endswith(b'"]') and self.session is not None:
            self._note_offset(orjson.loads(data[data.index(b"[") :]))
        elif data.startswith(b'42["session:closed",'):
            reason = orjson.loads(data[2:])[1]
            wait = float(reason.get("retryAfterMs") or 0) / 1000
            comes_back = reason.get("reconnect") is True
            self._ending = CallFailed(str(reason.get("code")), "session:closed", retryable=comes_back, retry_after=wait)

    def _on_connected(self, ids: dict[str, Any]) -> None:
        self.session, self.recovered = Session.begin(ids, self._resume)

    def _note_offset(self, arguments: list[Any]) -> None:
        if self.session is not None:
            self.session.note(arguments)

    def _send(self, packet: bytes) -> None:
        if self._socket is not None:
            self._socket.send(packet)

    def _end(self, reason: CallFailed) -> None:
        """Close for this reason, unless `session:closed` has given one already."""
        self._ending = self._ending or reason
        self.close()

    def _on_close(self, reason: str) -> None:
        self._socket = None
        failure = self._ending or CallFailed("CONNECTION_LOST", reason)
        self.closed.set_result(failure)
        self._waiting.clear()
        for future in self._failing.values():
            if not future.done():
                future.set_exception(failure)
        self._failing.clear()
