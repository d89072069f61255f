"""`realtime.create_server` used alone: no Parley around it, handlers of the test's own, in the test's process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from realtime import Server, create_server


class Standalone(NamedTuple):
    """A server on a port of loopback."""

    server: Server
    port: int


@asynccontextmanager
async def standalone(*, plain: bool = False, **options: Any) -> AsyncIterator[Standalone]:
    """A server on a free port, served by itself or, `plain`, by aiohttp alone; options are those of `create_server`."""
    server = create_server(**options)
    app = web.Application()
    server.attach_to(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if plain:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Standalone(server, runner.addresses[0][1])
    else:
        listening = await server.listen(runner, "127.0.0.1", 0, backlog=128)
        yield Standalone(server, listening.sockets[0].getsockname()[1])
        listening.close()
    await server.shutdown()
    await runner.cleanup()
