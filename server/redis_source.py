"""Clients for the three kinds of Redis: a single server, a master that sentinels name, a cluster."""

import contextlib
from collections.abc import Sequence
from typing import Any, Final, cast

from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

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


def _options(timeout_seconds: float, retries: int = 0, **more: Any) -> dict[str, Any]:
    """Nothing is tried again unless somebody says so, who knows that it does no harm."""
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), retries),
        "health_check_interval": 0,
        **more,
    }


class _Single:
    """One server."""

    sharded = False

    def __init__(self, url: str) -> None:
        self._url = url

    def client(self, *, timeout_seconds: float, retries: int = 0, text: bool = False) -> "Redis":
        return Redis.from_url(self._url, **_options(timeout_seconds, retries, decode_responses=text))

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
        self._login: dict[str, Any] = {"username": address.username, "password": address.password}
        ask: dict[str, Any] = {"username": address.sentinel_username, "password": address.sentinel_password}
        self._sentinels = Sentinel(  # type: ignore[no-untyped-call]
            address.hosts, sentinel_kwargs=_options(FIND_SECONDS, decode_responses=True, ssl=address.tls, **ask)
        )

    def client(self, *, timeout_seconds: float, retries: int = 0, text: bool = False) -> "Redis":
        options = _options(timeout_seconds, retries, decode_responses=text, db=self._address.db, **self._login)
        client: Redis = self._sentinels.master_for(self._address.service, ssl=self._address.tls, **options)
        return client

    async def locate(self, keys: Sequence[str]) -> list[str]:
        service = self._address.service
        for sentinel in self._sentinels.sentinels:
            with contextlib.suppress(RedisError, OSError):
                master: Any = await sentinel.sentinel_master(service)
                # The new one is named here as soon as it serves, among the masters a second later.
                found: Any = await sentinel.sentinel_get_master_addr_by_name(service)
                is_down = master["is_sdown"] or master["is_odown"]
                if found and not (is_down and found == (master["ip"], master["port"])):
                    return [f"{found[0]}:{found[1]}"] * len(keys)
        raise ConnectionError("no sentinel knows a master that is up")

    def connection(self, server: str, *, timeout_seconds: float) -> AbstractConnection:
        host, _, port = server.rpartition(":")
        kind = SSLConnection if self._address.tls else Connection
        options = _options(timeout_seconds, protocol=2, db=self._address.db, **self._login)
        return cast(AbstractConnection, kind(host=host, port=int(port), **options))

    async def close(self) -> None:
        await self._sentinels.aclose()


class _Cluster:
    """The masters of a cluster, as any of its servers names them; asked anew for each set of connections."""

    sharded = True

    def __init__(self, address: RedisUrl) -> None:
        self._address = address
        self._login: dict[str, Any] = {"username": address.username, "password": address.password}
        self._known = list(address.hosts)

    def client(self, *, timeout_seconds: float, retries: int = 0, text: bool = False) -> "Redis":
        client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self._address.hosts],
            ssl=self._address.tls,
            **_options(timeout_seconds, retries, decode_responses=text, **self._login),
        )
        return cast("Redis", client)

    async def locate(self, keys: Sequence[str]) -> list[str]:
        for host, port in self._known:
            with contextlib.suppress(RedisError, OSError):
                masters = await self._ask(host, port)
                found = [_owner(masters, key_slot(key.encode())) for key in keys]
                # All that may be asked next time, whoever is still there then.
                self._known = list(dict.fromkeys([*masters.values(), *self._address.hosts]))
                return [f"{host}:{port}" for host, port in found]
        raise ConnectionError("the cluster is away, or does not cover all slots")

    async def _ask(self, host: str, port: int) -> dict[tuple[int, int], tuple[str, int]]:
        """The masters that one server knows of, by first and last slot. Raises: RedisError, OSError."""
        options = _options(FIND_SECONDS, decode_responses=True, ssl=self._address.tls, **self._login)
        async with Redis(host=host, port=port, **options) as redis:
            slots: list[Any] = await redis.cluster("SLOTS")
        return {(first, last): (master[0] or host, int(master[1])) for first, last, master, *_ in slots}

    def connection(self, server: str, *, timeout_seconds: float) -> AbstractConnection:
        host, _, port = server.rpartition(":")
        kind = SSLConnection if self._address.tls else Connection
        options = _options(timeout_seconds, protocol=2, **self._login)
        return cast(AbstractConnection, kind(host=host, port=int(port), **options))

    async def close(self) -> None:
        pass


def _owner(masters: dict[tuple[int, int], tuple[str, int]], slot: int) -> tuple[str, int]:
    """Raises: ConnectionError when nobody has the slot."""
    for (first, last), owner in masters.items():
        if first <= slot <= last:
            return owner
    raise ConnectionError("nobody has this slot")
