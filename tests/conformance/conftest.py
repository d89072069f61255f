"""One node for the whole suite, its defaults untouched but for the rate limits, which a suite in a hurry would meet."""

import secrets
from collections.abc import AsyncIterator, Callable

import pytest

from server.embedded import EmbeddedServers
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
