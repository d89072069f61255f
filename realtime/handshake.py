"""An Engine.IO request as the engine sees it, and the opening handshake of a websocket.

Sources: RFC 6455 section 4.2, Engine.IO protocol 4.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web

HEAD_MAX_BYTES: Final = 8_190
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client asked for: header names in lower case, `remote` the address at the other end of the connection."""

    method: str
    version: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    remote: str

    @property
    def host(self) -> str:
        """Host and port that the client meant to reach."""
        return self.headers.get("host", "")

    @property
    def websocket_key(self) -> bytes | None:
        """The key of a well-formed opening handshake; None for any other request."""
        key = self.headers.get("sec-websocket-key", "").strip()
        if (
            self.method != "GET"
            or self.version == "HTTP/1.0"
            or self.headers.get("upgrade", "").strip().lower() != "websocket"
            or "upgrade" not in _tokens(self.headers.get("connection", ""))
            or self.headers.get("sec-websocket-version", "").strip() != "13"
            or not _is_key(key)
        ):
            return None
        return key.encode()

    def environ(self) -> dict[str, Any]:
        """The request in WSGI's terms (PEP 3333), as python-socketio hands it to connect handlers."""
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        return {
            "REQUEST_METHOD": self.method,
            "PATH_INFO": self.path,
            "QUERY_STRING": query,
            "RAW_URI": f"{self.path}?{query}",
            "REMOTE_ADDR": self.remote,
            "SERVER_PROTOCOL": self.version,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()},
        }


def from_request(request: web.Request) -> Handshake:
    """The handshake inside an aiohttp request."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    version = f"HTTP/{request.version.major}.{request.version.minor}"
    return Handshake(request.method, version, request.path, request.query, headers, request.remote or "")


def read_plain(data: bytes, path: str, remote: str) -> tuple[Handshake, bytes] | None:
    """The websocket handshake for this path that the first bytes of a connection are, and the bytes behind it.

    None for anything else, also for what is merely unusual: a full HTTP server is to judge that.
    """
    end = data.find(_END_OF_HEAD, 0, HEAD_MAX_BYTES)
    if end < 0 or not data.startswith(b"GET "):
        return None
    try:
        request_line, *lines = data[:end].decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        return None
    target, _, version = request_line[4:].rpartition(" ")
    target_path, _, query = target.partition("?")
    if target_path != path or version != "HTTP/1.1" or " " in query or "#" in query:
        return None
    headers = _headers(lines)
    if headers is None or "host" not in headers or not headers.keys().isdisjoint(_BODY_HEADERS):
        return None
    handshake = Handshake("GET", version, path, dict(parse_qsl(query, keep_blank_values=True)), headers, remote)
    return (handshake, data[end + len(_END_OF_HEAD) :]) if handshake.websocket_key is not None else None


_BODY_HEADERS: Final = frozenset({"content-length", "transfer-encoding", "expect"})


def _headers(lines: list[str]) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or not _is_token(name) or name in headers or not value.isprintable():
            return None
        headers[name] = value.strip()
    return headers


def _is_token(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum()


def _tokens(value: str) -> list[str]:
    return [token.strip() for token in value.lower().split(",")]


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def switching_protocols(key: bytes) -> bytes:
    """The response that opens a websocket."""
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + _END_OF_HEAD
    )
