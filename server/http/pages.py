"""The demo page: web/ as it is, the Socket.IO client from node_modules, and ready-made tokens in development."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

_ROOT = Path(__file__).resolve().parents[2]
_CLIENT = _ROOT / "node_modules" / "socket.io-client" / "dist"
_CLIENT_FILES = ("socket.io.esm.min.js", "socket.io.esm.min.js.map")
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".map": "application/json; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}
_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")

# No name carries a hash of its content, so browsers ask again each time and get a 304.
_REVALIDATE = "no-cache"
_REVALIDATE_SOMETIMES = "public, max-age=300"
_NEVER_STORE = "no-store"


def security_headers(host: str) -> dict[str, str]:
    """Headers for a page that loads only its own files and connects only to the host it came from.

    The websocket sources are spelled out because not every browser lets 'self' cover ws: and wss: (CSP level 3
    does); a malformed Host adds none.
    """
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    policy = (
        f"default-src 'self'; connect-src 'self'{sockets}; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


@dataclass(frozen=True, slots=True)
class _Pages:
    files: Mapping[str, Path]
    file_caching: str
    dev_tokens: Callable[[], dict[str, str]] | None

    async def index(self, request: web.Request) -> web.StreamResponse:
        return _file(request, self.files["index.html"], _REVALIDATE)

    async def static(self, request: web.Request) -> web.StreamResponse:
        path = self.files.get(request.match_info["name"])
        return _file(request, path, self.file_caching) if path else _text(request, 404, "not found")

    async def client(self, request: web.Request) -> web.StreamResponse:
        path = _CLIENT / request.match_info["name"]
        if path.name not in _CLIENT_FILES:
            return _text(request, 404, "not found")
        if not await asyncio.to_thread(path.is_file):
            return _text(request, 503, "the Socket.IO client is not installed: run make")
        return _file(request, path, self.file_caching)

    async def tokens(self, request: web.Request) -> web.StreamResponse:
        if self.dev_tokens is None:
            return _text(request, 404, "not found")
        tokens = [{"userId": user_id, "token": token} for user_id, token in self.dev_tokens().items()]
        return web.json_response({"tokens": tokens}, headers=_headers(request, _NEVER_STORE))


def setup_pages(app: web.Application, *, environment: str, dev_tokens: Callable[[], dict[str, str]] | None) -> None:
    """Add `/`, `/static/NAME`, `/vendor/NAME` and `/dev/tokens` to the application.

    `dev_tokens` gives user id → token anew for each request; without it, and in production always, `/dev/tokens` is
    404. Every answer carries `security_headers`.
    """
    production = environment == "production"
    pages = _Pages(
        files={path.name: path for path in (_ROOT / "web").iterdir() if path.suffix in _CONTENT_TYPES},
        file_caching=_REVALIDATE_SOMETIMES if production else _REVALIDATE,
        dev_tokens=None if production else dev_tokens,
    )
    app.router.add_get("/", pages.index)
    app.router.add_get("/static/{name}", pages.static)
    app.router.add_get("/vendor/{name}", pages.client)
    app.router.add_get("/dev/tokens", pages.tokens)


def _headers(request: web.Request, caching: str) -> dict[str, str]:
    return security_headers(request.host) | {"Cache-Control": caching}


def _file(request: web.Request, path: Path, caching: str) -> web.FileResponse:
    headers = _headers(request, caching) | {"Content-Type": _CONTENT_TYPES[path.suffix]}
    return web.FileResponse(path, headers=headers)


def _text(request: web.Request, status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers=_headers(request, _NEVER_STORE))
