"""Addresses of a Redis, read or refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.redis_url import SCHEMES, RedisUrl, parse_redis_url

HOSTS = st.tuples(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True), st.integers(1, 65535))


@pytest.mark.parametrize(
    ("url", "kind", "tls"),
    [
        ("redis://store:6379/0", "single", False),
        ("rediss://user:secret@store", "single", True),
        ("unix:///run/redis.sock?db=1", "single", False),
    ],
)
def test_one_server(url: str, kind: str, tls: bool) -> None:
    """It is the driver that reads the rest of it."""
    assert parse_redis_url(url) == RedisUrl(kind, url, tls)  # type: ignore[arg-type]


def test_everything_in_an_address() -> None:
    """Login, hosts with and without a port, service, database, and the sentinels' own login."""
    found = parse_redis_url("rediss+sentinel://me:p%40ss@one,[::1]:7000/chat/3?sentinel_username=s&sentinel_password=t")
    assert (found.kind, found.tls, found.service, found.db) == ("sentinel", True, "chat", 3)
    assert found.hosts == (("one", 26379), ("::1", 7000))
    assert (found.username, found.password) == ("me", "p@ss")
    assert (found.sentinel_username, found.sentinel_password) == ("s", "t")
    assert parse_redis_url("redis+cluster://:secret@one,two:7001").hosts == (("one", 6379), ("two", 7001))
    assert parse_redis_url("redis+cluster://:secret@one").password == "secret"


@given(st.lists(HOSTS, min_size=1, max_size=5))
def test_every_host_is_found(hosts: list[tuple[str, int]]) -> None:
    """In the order given."""
    text = ",".join(f"{name}:{port}" for name, port in hosts)
    assert parse_redis_url(f"redis+cluster://{text}").hosts == tuple(hosts)
    assert parse_redis_url(f"redis+sentinel://{text}/service").hosts == tuple(hosts)


@pytest.mark.parametrize(
    "url",
    [
        *("store:6379", "http://store", "redis://", "unix://", "redis+sentinel://store", "redis+sentinel:///chat"),
        *("redis+sentinel://one,,two/chat", "redis+sentinel://one:99999/chat", "redis+sentinel://one/chat/x"),
        *("redis+sentinel://one/chat?sentinel_pasword=x", "redis+cluster://", "redis+cluster://one/1"),
        *("redis+cluster://one:x", "redis+cluster://o ne", "redis+cluster://one?db=1"),
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    """With a ValueError, also what the standard library would read somehow."""
    with pytest.raises(ValueError, match=r".+"):
        parse_redis_url(url)


@given(st.sampled_from(sorted(SCHEMES)), st.text(max_size=60))
def test_rubbish_is_read_or_refused(scheme: str, rest: str) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(ValueError):
        parse_redis_url(f"{scheme}://{rest}")
