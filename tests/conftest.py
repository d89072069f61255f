"""Real stores for all tests, real server processes for those of the wire."""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from playwright.async_api import Browser

from server.app import utc_now
from server.embedded import EmbeddedServers
from storage.migrations import migrate
from storage.mongo import Mongo, PyMongoClient
from tests.browser import SignIn, chromium, visitors
from tests.clients.javascript import JavaScriptClient
from tests.clients.python import PythonClient
from tests.clients.user import Client
from tests.nodes import ROOT, Node

CLIENTS: dict[str, type[Client]] = {"javascript": JavaScriptClient, "python": PythonClient}


@pytest.fixture(scope="session")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServers]:
    """One mongod and one Valkey for the whole run."""
    servers = EmbeddedServers(tmp_path_factory.mktemp("stores"), mongodb=True, redis=True)
    await servers.start()
    yield servers
    await servers.stop()


@pytest.fixture
def database() -> str:
    """The name of a database that no other test uses."""
    return f"test_{secrets.token_hex(8)}"


@pytest.fixture(params=[AsyncIOMotorClient, PyMongoClient], ids=["motor", "pymongo"])
async def mongo(request: pytest.FixtureRequest, stores: EmbeddedServers, database: str) -> AsyncIterator[Mongo]:
    """A fresh, migrated database, by each of the two drivers."""
    mongo = Mongo(stores.mongodb_url, database, client_class=request.param)
    await migrate(mongo, now=utc_now)
    yield mongo
    await mongo.close()


@pytest.fixture(scope="module")
async def server(stores: EmbeddedServers) -> AsyncIterator[Node]:
    """One node for a module's tests; they keep apart by their users."""
    node = Node(stores.mongodb_url, stores.redis_url, f"test_{secrets.token_hex(8)}")
    await node.start()
    yield node
    await node.stop()


@pytest.fixture
async def start_node(stores: EmbeddedServers, database: str) -> AsyncIterator[Callable[..., Any]]:
    """Start nodes of one cluster: `await start_node(**environment)`."""
    nodes: list[Node] = []

    async def start(mongodb_url: str = stores.mongodb_url, redis_url: str = stores.redis_url, **extra: str) -> Node:
        node = Node(mongodb_url, redis_url, database, **extra)
        nodes.append(node)
        await node.start()
        return node

    yield start
    for node in nodes:
        await node.stop()


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Any]]:
    """Connect stock clients: `await connect(node, "alice")`, with `kind="javascript"` for that one."""
    clients: list[Client] = []

    async def connect(
        node: Node,
        user_id: str,
        *,
        kind: str = "python",
        token: str | None = None,
        url: str | None = None,
        **options: Any,
    ) -> Client:
        client = CLIENTS[kind](url or node.url, token or node.token(user_id), user_id, **options)
        clients.append(client)
        await client.connect()
        return client

    yield connect
    for client in clients:
        await client.close()


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One headless Chromium for a module's tests."""
    async with chromium() as running:
        yield running


@pytest.fixture
async def sign_in(browser: Browser, server: Node) -> AsyncIterator[SignIn]:
    """Open the page in a context of its own and sign in as the user: `await sign_in("alice")`."""
    async with visitors(browser, server) as visit:
        yield visit


@pytest.fixture
def user_id() -> Callable[[str], str]:
    """User ids that no other test uses: `user_id("alice")`."""
    suffix = secrets.token_hex(4)
    return lambda name: f"{name}-{suffix}"


def require_node() -> None:
    """Skip, with one line of reason, where Node.js or the JavaScript client is not installed."""
    if shutil.which("node") is None or not (ROOT / "node_modules" / "socket.io-client").exists():
        pytest.skip("Node.js or node_modules/socket.io-client is missing")


@pytest.fixture(params=list(CLIENTS))
def client_kind(request: pytest.FixtureRequest) -> str:
    """Each of the stock clients in turn."""
    if request.param == "javascript":
        require_node()
    return str(request.param)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With PARLEY_NO_SKIPS a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("PARLEY_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
