"""What a node knows of its sessions, in this process: clocks that jump, and revocations beyond what memory holds."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from auth.caller import Caller
from handlers.connections import Connections
from handlers.revocations import RevocationWatch
from protocol.errors import TokenRevoked, UserBlocked
from realtime.cluster import Cluster
from realtime.limits import Limits
from realtime.manager import Session
from realtime.server import Server
from realtime.socket import Socket
from server.app import utc_now
from server.embedded import EmbeddedServers
from server.redis_source import redis_source
from storage.mongo import Mongo, PyMongoClient
from storage.revocations import RevocationStore
from tests.clients.user import eventually
from tests.proxy import Proxy

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = 3_600


@dataclass
class Desk:
    """A node's connections under clocks of the test's own; `ended` tells who was closed, and why."""

    server: Server
    cluster: Cluster
    wall: datetime = NOON
    monotonic: float = 1_000.0
    ended: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connections = Connections(
            self.server.manager, self.cluster, self._close, lambda: self.wall, lambda: self.monotonic
        )
        self.sockets: list[Socket] = []

    def _close(self, socket: Socket, code: str) -> None:
        self.ended.append((socket.sid, code))
        socket.end("test")

    def open(self, name: str, expires_at: datetime = NOON, token_id: str | None = None) -> Session:
        """A session of the user of this name."""
        session = Session(name, "/", Socket(name, self.server.eio.shared))
        self.sockets.append(session.socket)
        self.server.manager.add(session)
        session.data = caller(name, expires_at, token_id)
        self.server.manager.enter(session, f"user:{name}")
        self.connections.opened(name, None)
        return session

    def pass_seconds(self, seconds: int) -> None:
        """Time goes on, and a look at it every second."""
        for _ in range(seconds):
            self.wall += timedelta(seconds=1)
            self.monotonic += 1
            self.connections.tick()


def caller(name: str, expires_at: datetime, token_id: str | None = None) -> Caller:
    """Who a session is, by a token issued an hour before noon."""
    return Caller(name, frozenset({"user"}), expires_at, NOON - timedelta(hours=1), token_id, session_id=name)


@pytest.fixture
async def desk(stores: EmbeddedServers) -> AsyncIterator[Desk]:
    """A node without its network: nobody listens, and the bus is not started."""
    server = Server(
        ping_interval_ms=25_000,
        ping_timeout_ms=20_000,
        limits=Limits(),
        origin_allowed=lambda *_: False,
        on_limit=lambda _: None,
    )
    desk = Desk(server, Cluster(redis_source(stores.redis_url), "test", "node"))
    yield desk
    for socket in desk.sockets:
        socket.end("test")
    await desk.cluster.stop()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_wall_clock_that_jumps_ends_nobody(desk: Desk, jump: int) -> None:
    """How long a session lasts is settled when its token comes; an hour forth or back changes nothing."""
    desk.open("ann", NOON + timedelta(seconds=90))
    desk.open("bob", NOON + timedelta(hours=2))
    desk.wall += timedelta(seconds=jump)
    desk.pass_seconds(89)
    assert desk.ended == []
    desk.pass_seconds(2)
    assert desk.ended == [("ann", "TOKEN_EXPIRED")]
    desk.pass_seconds(2 * HOUR - 92)
    assert len(desk.ended) == 1
    desk.pass_seconds(2)
    assert desk.ended == [("ann", "TOKEN_EXPIRED"), ("bob", "TOKEN_EXPIRED")]


async def test_a_renewed_session_lasts_as_its_new_token(desk: Desk) -> None:
    """Longer or shorter than the first one; a session that has gone is not kept."""
    session = desk.open("ann", NOON + timedelta(seconds=30))
    desk.pass_seconds(20)
    desk.connections.renew(caller("ann", NOON + timedelta(seconds=200)))
    assert session.data.expires_at == NOON + timedelta(seconds=200)
    desk.pass_seconds(170)
    desk.connections.renew(caller("ann", NOON + timedelta(seconds=195)))
    assert desk.ended == []
    desk.pass_seconds(6)
    assert desk.ended == [("ann", "TOKEN_EXPIRED")]
    desk.connections.closed("ann")
    desk.connections.renew(caller("ann", NOON + timedelta(seconds=300)))
    desk.pass_seconds(200)
    assert len(desk.ended) == 1


@pytest.mark.parametrize("remembered_max", [100, 1], ids=["in memory", "beyond memory"])
async def test_revocations_hold_however_many_there_are(desk: Desk, mongo: Mongo, remembered_max: int) -> None:
    """Those from before the start and those that come; where memory is too small, the store is asked."""
    store = RevocationStore(mongo, utc_now)
    later = utc_now() + timedelta(hours=1)
    await store.revoke_token("t1")
    await store.block_user("blocked")
    watch = RevocationWatch(store, desk.connections, remembered_max)
    await watch.start()
    for _ in range(2):
        with pytest.raises(TokenRevoked):
            await watch.check(caller("ann", later, "t1"))
        with pytest.raises(UserBlocked):
            await watch.check(caller("blocked", later))
    await watch.check(caller("ann", later, "t2"))

    desk.wall = utc_now()
    for name in ("ann", "bob", "cid", "dan"):
        desk.open(name, later, f"token of {name}")
    await store.revoke_user("ann", NOON)
    await store.block_user("bob")
    await store.revoke_token("token of cid")
    await store.lift_block("blocked")
    await eventually(lambda: len(desk.ended) == 3, 5)
    assert sorted(desk.ended) == [("ann", "TOKEN_REVOKED"), ("bob", "USER_BLOCKED"), ("cid", "TOKEN_REVOKED")]
    await watch.check(caller("dan", later, "token of dan"))
    end = asyncio.get_running_loop().time() + 5
    while await is_blocked(watch):
        assert asyncio.get_running_loop().time() < end
    await watch.close()
    await store.close()


async def is_blocked(watch: RevocationWatch) -> bool:
    """Whether the user of the lifted block is still out."""
    try:
        await watch.check(caller("blocked", utc_now() + timedelta(hours=1)))
    except UserBlocked:
        await asyncio.sleep(0.05)
        return True
    return False


async def test_a_node_whose_store_is_away_keeps_what_it_knows(
    desk: Desk, stores: EmbeddedServers, database: str
) -> None:
    """Handshakes are checked as before, and what was missed is in force once the store is back."""
    proxy = Proxy(stores.mongodb_url)
    await proxy.start()
    near = Mongo(stores.mongodb_url, database)
    # Motor closes with a blocking call, for which a proxy in the same loop could do nothing.
    url = proxy.url.replace("?replicaSet=parley", "?directConnection=true")
    far = Mongo(url, database, client_class=PyMongoClient)
    store, watched = RevocationStore(near, utc_now), RevocationStore(far, utc_now)
    await store.block_user("blocked")
    watch = RevocationWatch(watched, desk.connections)
    await watch.start()
    desk.wall = utc_now()
    desk.open("ann", desk.wall + timedelta(hours=1))
    await proxy.refuse()
    await store.block_user("ann")
    with pytest.raises(UserBlocked):
        await watch.check(caller("blocked", desk.wall + timedelta(hours=1)))
    assert desk.ended == []
    await proxy.accept()
    await eventually(lambda: desk.ended == [("ann", "USER_BLOCKED")], 10)
    await watch.close()
    for closing in (store, watched, near, far, proxy):
        await closing.close()
