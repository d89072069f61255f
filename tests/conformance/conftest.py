"""One node for the suite, all defaults but the rate limits, which a suite in a hurry would meet; and a bare server."""

import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from server.embedded import EmbeddedServers
from tests.conformance.standalone import Standalone, standalone
from tests.conformance.websocket import WebSocket
from tests.conformance.wire import Polling, Wire
from tests.nodes import Node


@pytest.fixture(scope="package")
async def server(stores: EmbeddedServers) -> AsyncIterator[Node]:
    """A node with the default intervals: no ping comes in between during a test."""
    node = Node(stores.mongodb_url, stores.redis_url, f"test_{secrets.token_hex(8)}", RATE_LIMITS="off")
    await node.start()
    yield node
    await node.stop()


@pytest.fixture
async def wire(server: Node) -> AsyncIterator[Wire]:
    """The ways to that node."""
    wire = Wire(server.port)
    yield wire
    await wire.close()


@pytest.fixture
def token(server: Node, user_id: Callable[[str], str]) -> str:
    """The token of a user that no other test uses."""
    return server.token(user_id("alice"))


@pytest.fixture
async def websocket(wire: Wire, token: str) -> WebSocket:
    """A websocket with an open session."""
    return await wire.websocket(token)


@pytest.fixture
async def polling(wire: Wire, token: str) -> Polling:
    """A long-polling client with an open session."""
    return await wire.polling(token)


@pytest.fixture
async def alone() -> AsyncIterator[Standalone]:
    """A server that is not Parley: its `echo` is acked with its arguments, its `back` returns as an event."""
    async with standalone() as alone:

        async def echo(sid: str, *args: Any) -> Any:
            return args

        async def back(sid: str, *args: Any) -> None:
            await alone.server.emit("back", args, to=sid)

        alone.server.on("echo", echo)
        alone.server.on("back", back)
        yield alone


@pytest.fixture
async def alone_wire(alone: Standalone) -> AsyncIterator[Wire]:
    """The ways to that server."""
    wire = Wire(alone.port)
    yield wire
    await wire.close()


@pytest.fixture
async def alone_websocket(alone_wire: Wire) -> WebSocket:
    """A websocket with an open session on that server."""
    websocket = await alone_wire.websocket()
    await websocket.send("40")
    assert (await websocket.text()).startswith('40{"sid"')
    return websocket


@pytest.fixture
async def alone_polling(alone_wire: Wire) -> Polling:
    """A long-polling client with an open session on that server."""
    polling = await alone_wire.polling()
    await polling.send("40")
    await polling.until('40{"sid"')
    return polling
