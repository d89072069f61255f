"""Answers to requests that the Engine.IO endpoint does not take.

Statuses and bodies are those of the reference server; SERVER_BUSY and SERVER_DRAINING are ours.
"""

from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web


class Refusal(NamedTuple):
    """A status and a JSON body; `retry_after_ms` when the same request may be taken later."""

    status: int
    code: int | str
    message: str
    retry_after_ms: int | None = None

    def body(self) -> bytes:
        """What the client reads."""
        fields: dict[str, Any] = {"code": self.code}
        if self.message:
            fields["message"] = self.message
        if self.retry_after_ms is not None:
            fields["retryAfterMs"] = self.retry_after_ms
        return orjson.dumps(fields)

    def headers(self) -> dict[str, str]:
        """What goes with the body."""
        if self.retry_after_ms is None:
            return {}
        return {"Retry-After": str(-(-self.retry_after_ms // 1000))}

    def response(self) -> web.Response:
        """As aiohttp sends it."""
        return web.Response(
            status=self.status, body=self.body(), headers=self.headers(), content_type="application/json"
        )

    def raw(self, origin: str | None) -> bytes:
        """As bytes of HTTP/1.1, after which the connection closes; readable by pages of `origin`."""
        body = self.body()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        if origin is not None:
            headers |= {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        lines = [f"{name}: {value}" for name, value in (headers | self.headers()).items()]
        reason = _REASONS[self.status]
        return f"HTTP/1.1 {self.status} {reason}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + body


_REASONS: Final = {400: "Bad Request", 403: "Forbidden", 503: "Service Unavailable"}

UNKNOWN_TRANSPORT: Final = Refusal(400, 0, "Transport unknown")
UNKNOWN_SESSION: Final = Refusal(400, 1, "Session ID unknown")
BAD_METHOD: Final = Refusal(400, 2, "Bad handshake method")
BAD_REQUEST: Final = Refusal(400, 3, "Bad request")
FORBIDDEN: Final = Refusal(403, 4, "Forbidden")
UNKNOWN_VERSION: Final = Refusal(400, 5, "Unsupported protocol version")


def busy(retry_after_ms: int) -> Refusal:
    """Too many handshakes at once: come back later."""
    return Refusal(503, "SERVER_BUSY", "", retry_after_ms)


def draining(retry_after_ms: int) -> Refusal:
    """The server is going away: come back, to another one."""
    return Refusal(503, "SERVER_DRAINING", "", retry_after_ms)
