"""`realtime.server.Server` used alone: no Parley around it, handlers of the test's own, in the test's process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from realtime.server import Server


class Standalone(NamedTuple):
    """A server on a port of loopback."""

    server: Server
    port: int


@asynccontextmanager
async def standalone(**options: Any) -> AsyncIterator[Standalone]:
    """A server on a free port; options replace the defaults of its constructor."""
    server = Server(
        **{
            "ping_interval_ms": 25_000,
            "ping_timeout_ms": 20_000,
            "max_payload_bytes": 1_000_000,
            "origin_allowed": lambda origin, request: True,
            **options,
        }
    )
    app = web.Application()
    server.attach_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Standalone(server, runner.addresses[0][1])
    await server.shutdown()
    await runner.cleanup()
