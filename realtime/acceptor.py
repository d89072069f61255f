"""A fresh connection, until its first request has come: plain websocket handshakes are answered here.

Everything else is aiohttp's from its first byte on. Most clients of a messaging server come once, by a websocket, and
stay: an HTTP server's parser, tasks and request objects would be most of what such a client costs.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from realtime.handshake import HEAD_MAX_BYTES, Handshake, read_plain

FIRST_REQUEST_SECONDS: Final = 10.0
"""How long a connection may take to say what it wants."""

AcceptWebSocket = Callable[[Handshake, asyncio.Transport, bytes], None]
"""Takes a handshake, its connection, and what the client has sent behind it."""


class Acceptor(asyncio.Protocol):
    """Reads the head of a connection's first request, then gives the connection away.

    `make_http()` makes the protocol of an HTTP server.
    """

    __slots__ = ("_accept", "_head", "_make_http", "_path", "_timer", "_transport")

    def __init__(self, path: str, accept: AcceptWebSocket, make_http: Callable[[], Any]) -> None:
        self._path = path
        self._accept = accept
        self._make_http = make_http
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Take a part of the head."""
        self._head += data
        if self._may_grow():
            return
        transport = self._release()
        if transport is None:
            return
        peer = transport.get_extra_info("peername")
        plain = read_plain(self._head, self._path, peer[0] if isinstance(peer, tuple) else "")
        if plain is not None:
            self._accept(plain[0], transport, plain[1])
        else:
            http = self._make_http()
            transport.set_protocol(http)
            http.connection_made(transport)
            http.data_received(self._head)

    def _may_grow(self) -> bool:
        """Whether it could still be a websocket handshake for this path that has not come whole."""
        begin = b"GET %s?" % self._path.encode()
        return (
            self._head.startswith(begin[: len(self._head)])
            and len(self._head) < HEAD_MAX_BYTES
            and b"\r\n\r\n" not in self._head
        )

    def _release(self) -> asyncio.Transport | None:
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return transport

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone without a word."""
        self._release()
