"""One TCP connection on which HTTP is written byte by byte, for what no HTTP client would send."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

ANSWER_SECONDS = 10.0
READ_LIMIT_BYTES = 4 * 1024 * 1024


class Response(NamedTuple):
    """An HTTP response; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def media_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Connection:
    """A TCP connection to a server on loopback."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port = port
        self.reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_LIMIT_BYTES)
        return cls(port, reader, writer)

    def write(self, data: bytes) -> None:
        """Send these bytes in one piece, if the network takes them so."""
        self._writer.write(data)

    async def flush(self) -> None:
        """Wait until the network has taken most of what was written; a connection that has ended takes all."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def end_writing(self) -> None:
        """Half-close: nothing more will be sent."""
        self._writer.write_eof()

    def request_bytes(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> bytes:
        """An HTTP/1.1 request as bytes, with Host and, with a body, Content-Length."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")

    async def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """Send a request and wait for its response."""
        self.write(self.request_bytes(method, target, headers, body))
        return await self.response(bodiless=method == "HEAD")

    async def response(self, *, bodiless: bool = False) -> Response:
        """The next response. Raises: asyncio.IncompleteReadError when the connection ends instead."""
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            status = int(status_line.split(" ")[1])
            if bodiless or status in (100, 101, 204, 304):
                return Response(status, headers, b"")
            if headers.get("transfer-encoding") == "chunked":
                return Response(status, headers, await self._chunks())
            if "content-length" in headers:
                return Response(status, headers, await self.reader.readexactly(int(headers["content-length"])))
            return Response(status, headers, await self.reader.read())

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readline()
        return body

    async def ended(self, seconds: float = ANSWER_SECONDS) -> bytes:
        """What still comes until the server ends the connection; a reset is an end, too."""
        rest = b""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                while piece := await self.reader.read(65_536):
                    rest += piece
        return rest

    async def close(self) -> None:
        """Go away."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Go away at once, without a word."""
        self._writer.transport.abort()
