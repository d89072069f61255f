"""The emitters' connection to Redis: it comes back by itself, a silent one is noticed, and it can always be stopped."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from realtime.emitters import COMMAND_SECONDS, Emitters
from realtime.foreign import ForeignReader
from realtime.limits import Limits
from realtime.manager import Manager
from server.embedded import EmbeddedServers
from server.redis_source import redis_source
from tests.proxy import Proxy
from tests.senders import until


class Ear:
    """A node's ear for emitters, by way of a proxy, and the outcomes it has told."""

    def __init__(self, url: str) -> None:
        self.outcomes: list[tuple[str, str]] = []
        self.emitters = Emitters(
            redis_source(url).client(timeout_seconds=COMMAND_SECONDS),
            Manager(10, lambda limit: None),
            ForeignReader(Limits(), (), lambda room: False),
            lambda socket, code: None,
            lambda source, outcome: self.outcomes.append((source, outcome)),
        )

    async def hears(self, url: str) -> None:
        """It is connected, and takes what is published."""
        await until(lambda: self.emitters.connected, "it listens")
        count = len(self.outcomes)
        async with Redis.from_url(url) as redis:
            await redis.publish("socket.io-request#/#", b"\xff")
        await until(lambda: len(self.outcomes) > count, "it hears")


@pytest.fixture
async def proxy(stores: EmbeddedServers) -> AsyncIterator[Proxy]:
    """A proxy before Valkey."""
    proxy = Proxy(stores.redis_url)
    await proxy.start()
    yield proxy
    await proxy.close()


@pytest.fixture
async def ear(proxy: Proxy) -> AsyncIterator[Ear]:
    """An ear behind the proxy."""
    ear = Ear(proxy.url)
    ear.emitters.start()
    yield ear
    await ear.emitters.stop()


async def test_it_comes_back(ear: Ear, proxy: Proxy, stores: EmbeddedServers) -> None:
    """After a cut, a time without Redis, and a connection that says nothing any more."""
    await ear.hears(stores.redis_url)
    proxy.cut()
    await until(lambda: not ear.emitters.connected, "the cut is noticed")
    await ear.hears(stores.redis_url)
    await proxy.refuse()
    await until(lambda: not ear.emitters.connected, "that Redis is away is noticed")
    await proxy.accept()
    await ear.hears(stores.redis_url)
    proxy.stall()
    await until(lambda: not ear.emitters.connected, "silence is noticed")
    proxy.flow()
    await ear.hears(stores.redis_url)


async def test_it_starts_without_redis(proxy: Proxy, stores: EmbeddedServers) -> None:
    """A Redis that is not there at the start is found when it comes."""
    await proxy.refuse()
    ear = Ear(proxy.url)
    ear.emitters.start()
    await proxy.accept()
    await ear.hears(stores.redis_url)
    await ear.emitters.stop()
    assert not ear.emitters.connected


async def test_it_stops_in_the_middle_of_anything(stores: EmbeddedServers) -> None:
    """Before it is connected, at the first command, in the thick of them: it ends, and takes nothing any more."""
    for count in (0, 0, 1, 2, 10, 100):
        ear = Ear(stores.redis_url)
        ear.emitters.start()
        async with Redis.from_url(stores.redis_url) as redis:
            if count:
                await until(lambda: ear.emitters.connected, "it listens")  # noqa: B023 - this round's
                for _ in range(300):
                    await redis.publish("socketio", b"{}")
                await until(lambda: len(ear.outcomes) >= count, "it hears")  # noqa: B023
            async with asyncio.timeout(10):
                await ear.emitters.stop()
            heard = len(ear.outcomes)
            await redis.publish("socketio", b"{}")
        assert (len(ear.outcomes), ear.emitters.connected) == (heard, False)
