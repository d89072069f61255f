"""Clients for the three kinds of Redis: a single server, a master that sentinels name, a cluster."""

from collections.abc import Sequence
from typing import Any, Final, cast

from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, SlotNotCoveredError

from realtime.redis_source import RedisSource
from server.redis_url import RedisUrl, parse_redis_url

FIND_SECONDS: Final = 0.3
"""Longest wait for one sentinel, or one server of a cluster; a dead one must not hold up the search."""


def redis_source(url: str) -> RedisSource:
    """The Redis at this address. Nothing is connected yet. Raises: ValueError."""
    address = parse_redis_url(url)
    if address.kind == "cluster":
        return _Cluster(address)
    return _Watched(address) if address.kind == "sentinel" else _Single(url)


def _options(timeout_seconds: float, **more: Any) -> dict[str, Any]:
    """Nothing is tried twice by itself: whoever asks knows better what to do, and when."""
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        **more,
    }


class _Single:
    """One server."""

    sharded = False

    def __init__(self, url: str) -> None:
        self._url = url

    def client(self, *, timeout_seconds: float, text: bool = False) -> "Redis":
        return Redis.from_url(self._url, **_options(timeout_seconds, decode_responses=text))

    async def locate(self, keys: Sequence[str]) -> list[str]:
        return [""] * len(keys)

    def connection(self, server: str, *, timeout_seconds: float) -> AbstractConnection:
        pool = ConnectionPool.from_url(self._url, **_options(timeout_seconds, protocol=2))
        return cast(AbstractConnection, pool.make_connection())  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        pass


class _Watched:
    """The master of a service, as sentinels name it."""

    sharded = False

    def __init__(self, address: RedisUrl) -> None:
        self._address = address
        self._login = {"username": address.username, "password": address.password}
        ask = {"username": address.sentinel_username, "password": address.sentinel_password, "ssl": address.tls}
        self._sentinels = Sentinel(  # type: ignore[no-untyped-call]
            address.hosts, sentinel_kwargs=_options(FIND_SECONDS, **ask)
        )

    def client(self, *, timeout_seconds: float, text: bool = False) -> "Redis":
        options = _options(timeout_seconds, decode_responses=text, db=self._address.db, **self._login)
        client: Redis = self._sentinels.master_for(self._address.service, ssl=self._address.tls, **options)
        return client

    async def locate(self, keys: Sequence[str]) -> list[str]:
        host, port = await self._sentinels.discover_master(self._address.service)
        return [f"{host}:{port}"] * len(keys)

    def connection(self, server: str, *, timeout_seconds: float) -> AbstractConnection:
        host, _, port = server.rpartition(":")
        kind = SSLConnection if self._address.tls else Connection
        options = _options(timeout_seconds, protocol=2, db=self._address.db, **self._login)
        return cast(AbstractConnection, kind(host=host, port=int(port), **options))

    async def close(self) -> None:
        await self._sentinels.aclose()


class _Cluster:
    """The masters of a cluster. The finder knows which has what; it is asked anew for each set of connections."""

    sharded = True

    def __init__(self, address: RedisUrl) -> None:
        self._address = address
        self._finder = self._client(FIND_SECONDS, protocol=2)

    def client(self, *, timeout_seconds: float, text: bool = False) -> "Redis":
        return cast("Redis", self._client(timeout_seconds, decode_responses=text))

    def _client(self, timeout_seconds: float, **options: Any) -> "RedisCluster":
        address = self._address
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            username=address.username,
            password=address.password,
            ssl=address.tls,
            **_options(timeout_seconds, **options),
        )

    async def locate(self, keys: Sequence[str]) -> list[str]:
        try:
            await self._finder.nodes_manager.initialize()
            return [cast(ClusterNode, self._finder.get_node_from_key(key)).name for key in keys]
        except (RedisClusterException, SlotNotCoveredError, AttributeError) as error:
            raise ConnectionError("the cluster is away, or does not cover all slots") from error

    def connection(self, server: str, *, timeout_seconds: float) -> AbstractConnection:
        node = self._finder.get_node(node_name=server)
        if node is None:
            raise ConnectionError("the server has left the cluster")
        options = {**node.connection_kwargs, **_options(timeout_seconds, protocol=2)}
        return cast(AbstractConnection, node.connection_class(**options))

    async def close(self) -> None:
        await self._finder.nodes_manager.aclose()
        await self._finder.nodes_manager.aclose("startup_nodes")
