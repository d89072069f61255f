"""A websocket client that costs next to nothing: text frames in and out of one asyncio protocol, no task, no queue.

Source: RFC 6455. The masking key is fixed to zero, which leaves payloads as they are; masking protects proxies from
browsers' scripts, of which there are none here.
"""

import asyncio
import base64
import hashlib
import socket
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

HANDSHAKE_MAX_BYTES = 16_384
FRAME_MAX_BYTES = 8_000_000
"""Far above the 512 KiB at which a server cuts its replies."""
BUFFER_BYTES = 1_048_576
SLOW_BUFFER_BYTES = 4_096
"""What the kernel takes for a client that does not read: little, so that it is the server that must keep the rest."""

_KEY = base64.b64encode(b"parley-loadtests").decode()
_ACCEPT = base64.b64encode(hashlib.sha1(f"{_KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
_NO_MASK = bytes(4)
_CONTINUATION, _TEXT, _CLOSE, _PING = 0x0, 0x1, 0x8, 0x9


class HandshakeRefused(Exception):
    """The server answered the upgrade with another HTTP status.

    `retry_after` in seconds, 0 when it named none; `body` as far as it came with a length.
    """

    def __init__(self, status: int, retry_after: float, body: bytes = b"") -> None:
        super().__init__(f"HTTP {status} instead of a websocket")
        self.status = status
        self.retry_after = retry_after
        self.body = body


class WebSocket(asyncio.Protocol):
    """One websocket connection to `url` (http, https, ws or wss), made by `open`.

    `on_text` is called with the payload of each text message in the order of arrival, never after `on_close`, which
    is called once with the reason, also when the connection ends by `abort`; not, when `open` has failed.
    """

    def __init__(self, url: str, on_text: Callable[[bytes], None], on_close: Callable[[str], None]) -> None:
        self._url = urlsplit(url)
        self._on_text = on_text
        self._on_close = on_close
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._refusal: HandshakeRefused | None = None
        self._rest = b""
        self._fragments: list[bytes] = []
        self._reason = "the connection was lost"

    async def open(self) -> None:
        """Connect and shake hands, once. Raises HandshakeRefused or OSError; cancelling it ends the connection."""
        url = self._url
        secure = url.scheme in ("https", "wss")
        context = ssl.create_default_context() if secure else None
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(
                lambda: self, url.hostname or "", url.port or (443 if secure else 80), ssl=context
            )
            await self._opened
        except BaseException:
            self._on_text, self._on_close = _ignore, _ignore
            self.abort()
            raise

    def send(self, text: bytes) -> None:
        """Write one text message at once; nothing happens when the connection has ended."""
        if self._transport is not None:
            self._write(0x80 | _TEXT, text)

    def abort(self) -> None:
        """End the connection without a closing handshake; idempotent."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading, and let the kernel take hardly more: the server soon feels a slow reader; idempotent."""
        if self._transport is not None:
            self._set_buffer(SLOW_BUFFER_BYTES)
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on; idempotent."""
        if self._transport is not None and not self._transport.is_reading():
            self._set_buffer(BUFFER_BYTES)
            self._transport.resume_reading()

    def _set_buffer(self, size: int) -> None:
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        target = self._url.path + (f"?{self._url.query}" if self._url.query else "")
        request = (
            f"GET {target} HTTP/1.1\r\nHost: {self._url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._transport.write(request.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._opened.done():
            self._opened.set_exception(self._refusal or ConnectionResetError("closed during the handshake"))
            self._opened.exception()  # nobody may be waiting any more
        on_close, self._on_text, self._on_close = self._on_close, _ignore, _ignore
        on_close(str(exc) if exc else self._reason)

    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        if not self._opened.done():
            head, separator, rest = buffer.partition(b"\r\n\r\n")
            if not separator or not self._check_handshake(head, rest):
                self._rest = buffer
                if len(buffer) > HANDSHAKE_MAX_BYTES:
                    self._fail(ConnectionError("the answer to the handshake is too long"))
                return
            buffer = rest
        self._rest = self._read_frames(buffer)

    def _check_handshake(self, head: bytes, rest: bytes) -> bool:
        """Whether this is a websocket now; a refusal is taken once its body, as long as announced, has come."""
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        version, _, reason = status_line.partition(" ")
        status = int(reason[:3]) if version.startswith("HTTP/1.") and reason[:3].isdigit() else 0
        if status != 101:
            after, length = headers.get("retry-after", ""), headers.get("content-length", "")
            self._refusal = HandshakeRefused(status, float(after) if after.isdigit() else 0.0, rest)
            if len(rest) >= (int(length) if length.isdigit() else 0):
                self._fail(self._refusal)
        elif headers.get("sec-websocket-accept") != _ACCEPT:
            self._fail(ConnectionError("the server's Sec-WebSocket-Accept is wrong"))
        else:
            self._opened.set_result(None)
            return True
        return False

    def _fail(self, fault: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(fault)
        self._reason = str(fault)
        self.abort()

    def _read_frames(self, buffer: bytes) -> bytes:
        """Handle the whole frames at the start of `buffer` and return the rest."""
        at, end = 0, len(buffer)
        while end - at >= 2:
            first, length, body = buffer[at], buffer[at + 1], at + 2
            if length >= 126:
                wide = 2 if length == 126 else 8
                body += wide
                if end < body:
                    break
                length = int.from_bytes(buffer[at + 2 : body], "big")
                if length > FRAME_MAX_BYTES:
                    self._fail(ConnectionError(f"a frame of {length} bytes"))
                    return b""
            if end - body < length:
                break
            at = body + length
            payload = buffer[body:at]
            if first == 0x80 | _TEXT:
                self._on_text(payload)
            else:
                self._read_other(first, payload)
        return buffer[at:]

    def _read_other(self, first: int, payload: bytes) -> None:
        """Control frames and fragments; binary messages are none of Parley's and are passed over."""
        code = first & 0x0F
        if code == _PING:
            self._write(0x8A, payload)
        elif code == _CLOSE:
            number = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self._reason = f"closed by the server with code {number}"
            self.abort()
        elif code in (_CONTINUATION, _TEXT):
            self._fragments.append(payload)
            if sum(map(len, self._fragments)) > FRAME_MAX_BYTES:
                self._fail(ConnectionError("a message in too many fragments"))
            elif first & 0x80:
                whole, self._fragments = b"".join(self._fragments), []
                self._on_text(whole)

    def _write(self, first: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = bytes((first, 0x80 | length))
        elif length < 65_536:
            head = bytes((first, 0xFE)) + length.to_bytes(2, "big")
        else:
            head = bytes((first, 0xFF)) + length.to_bytes(8, "big")
        if self._transport is not None:
            self._transport.write(head + _NO_MASK + payload)


def _ignore(_: object) -> None:
    """Stands in for a callback after the end."""
