"""A Socket.IO server of one's own: how it is made, on one node or, with Redis, on many."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from realtime.limits import DEFAULT_LIMITS, Limits
from realtime.redis_servers import redis_source
from realtime.relay import Relay
from realtime.server import Server


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
    redis_url: str | None = None,
    redis_prefix: str = "socketio",
    recovery: bool = True,
    **options: Any,
) -> Server:
    """A Socket.IO server, to be made inside the running loop, then `attach_to` an aiohttp application.

    `limits` bound what a client may cost, `on_limit(name)` is told when one is reached. `origin_allowed(origin, host)`
    says whether a web page of an origin may connect to this host and port; by default those of the server itself.
    With a `redis_url` (a server, sentinels or a cluster, see realtime.redis_url) what is emitted to a room reaches its
    members on all nodes of the same `redis_prefix`, and with `recovery` clients that come back within two minutes get
    their session, its rooms, and what they missed, on any of them.

    Other options are python-socketio's (`namespaces`, `always_connect`, …). Whoever serves the application with
    `Server.listen` gets the cheapest websockets; any other way works as well. `shutdown()` belongs before the end.
    """
    server = Server(
        ping_interval_ms=ping_interval_ms,
        ping_timeout_ms=ping_timeout_ms,
        limits=limits,
        origin_allowed=origin_allowed,
        on_limit=on_limit,
        **options,
    )
    if redis_url is not None:
        relay = Relay(server, redis_source(redis_url), redis_prefix, recovers=recovery)

        async def bus(app: web.Application) -> AsyncIterator[None]:
            await relay.start()
            yield
            await relay.close()

        server.contexts.append(bus)
    return server
