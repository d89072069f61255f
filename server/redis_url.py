"""The address of a Redis: one server, a service that sentinels watch over, or a cluster. Pure."""

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["single", "sentinel", "cluster"]

SENTINEL_PORT: Final = 26379
REDIS_PORT: Final = 6379
SCHEMES: Final[dict[str, Kind]] = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?")


class RedisUrl(NamedTuple):
    """`url` is the address as it was, `hosts` where sentinels, or some of a cluster, are. Passwords are in clear."""

    kind: Kind
    url: str
    tls: bool
    hosts: tuple[tuple[str, int], ...] = ()
    username: str | None = None
    password: str | None = None
    service: str = ""
    db: int = 0
    sentinel_username: str | None = None
    sentinel_password: str | None = None


def parse_redis_url(url: str) -> RedisUrl:
    """Read an address.

        redis://[user:password@]host[:port][/db]      also rediss:// (TLS), unix:///path
        redis+sentinel://[user:password@]host[:port],…/service[/db][?sentinel_username=…&sentinel_password=…]
        redis+cluster://[user:password@]host[:port],…                    also rediss+sentinel://, rediss+cluster://

    Raises: ValueError for anything else.
    """
    parts = urlsplit(url)
    kind = SCHEMES.get(parts.scheme)
    tls = parts.scheme.startswith("rediss")
    if kind is None:
        raise ValueError("is no address of a Redis")
    if kind == "single":
        if not (parts.hostname or (parts.scheme == "unix" and parts.path)):
            raise ValueError("names no host")
        return RedisUrl(kind, url, tls)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    found = RedisUrl(
        kind,
        url,
        tls,
        tuple(_host(host, SENTINEL_PORT if kind == "sentinel" else REDIS_PORT) for host in hosts.split(",")),
        unquote(username) or None,
        unquote(password) or None,
    )
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if kind == "cluster":
        if parts.path not in ("", "/", "/0") or options:
            raise ValueError("a cluster has no databases and takes no options")
        return found
    service, _, db = parts.path.strip("/").partition("/")
    if not service or not re.fullmatch(r"\d{0,4}", db) or options.keys() - _SENTINEL_OPTIONS:
        raise ValueError("names no service, a database that is no number, or an unknown option")
    return found._replace(
        service=service,
        db=int(db or 0),
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None or int(match["port"] or default_port) > 65535:
        raise ValueError("has a host that is none")
    return match["six"] or match["name"], int(match["port"] or default_port)
