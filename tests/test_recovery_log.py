"""What was said in a room lately, as the script that publishes writes it and as a client that comes back needs it."""

import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from realtime.cluster import Cluster
from realtime.frames import Packet, websocket_frame
from realtime.recovery_log import LOG_ENTRIES, LOG_SECONDS, READ_ENTRIES, RENEW_SECONDS, Renewals
from realtime.redis_clock import RedisClock
from server.embedded import EmbeddedServers
from server.redis_source import redis_source
from tests.proxy import Proxy
from tests.senders import until

MakeNode = Callable[..., Awaitable[Cluster]]


@pytest.fixture
async def node(stores: EmbeddedServers) -> AsyncIterator[MakeNode]:
    """Nodes of one cluster: `await node("name", url)`."""
    prefix = f"test_{secrets.token_hex(8)}"
    clusters: list[Cluster] = []

    async def make(name: str, url: str = stores.redis_url) -> Cluster:
        cluster = Cluster(redis_source(url), prefix, name)
        clusters.append(cluster)
        await cluster.start()
        await until(lambda: cluster.connected, "the bus is there")
        return cluster

    yield make
    for each in clusters:
        await each.stop()


def event(text: str, offset: bytes | None) -> Packet:
    """An event as it is published."""
    return Packet(b'42["said","%b"]' % text.encode(), offset=offset)


async def said(cluster: Cluster, *rooms: str, since_ms: int = 0) -> tuple[dict[str, list[bytes | None]], bool]:
    """The offsets in the logs of rooms, once what was published has been written."""
    await cluster._outbox.flushed.wait()
    found, complete = await cluster.read_log(rooms, since_ms)
    return {room: [entry.frame.offset for entry in entries] for room, entries in found.items()}, complete


@given(st.text(alphabet="abc012-", min_size=1), st.binary(max_size=70_000))
def test_an_offset_is_one_more_argument(offset: str, text: bytes) -> None:
    """Payload and frame carry it, the plain packet does not."""
    packet = Packet(b"42[" + text + b"]", offset=offset.encode())
    assert packet.payload == b"42[" + text + b',"' + offset.encode() + b'"]'
    assert packet.frame == websocket_frame(packet.payload)
    assert packet.plain.payload == packet.plain_payload == b"42[" + text + b"]"
    assert packet.plain is packet.plain
    assert packet.plain.offset is None
    assert packet.plain.plain is packet.plain


async def test_what_has_an_offset_is_logged_also_by_a_node_that_is_alone(node: MakeNode) -> None:
    """In order, with everything that says who is not to see it; what has no offset is not."""
    one = await node("one")
    one.publish("room:a", 1, event("first", b"x.one.1"), skip="session")
    one.publish("room:a", None, event("typing", None))
    one.publish("room:a", -1, event("second", b"x.one.2"), unless="user:u")
    one.publish("room:b", None, event("third", b"x.one.3"))
    assert await said(one, "room:a", "room:b", "room:c") == (
        {"room:a": [b"x.one.1", b"x.one.2"], "room:b": [b"x.one.3"]},
        True,
    )
    entries, _ = await one.read_log(["room:a"], 0)
    first, second = entries["room:a"]
    assert first.frame == (b"x.one.1", "session", None, 1, b'42["said","first"]', False)
    assert second.frame == (b"x.one.2", None, "user:u", -1, b'42["said","second"]', False)
    assert first.id < second.id
    assert abs(first.id[0] - one.now_ms()) < 5_000


async def test_the_log_is_in_the_order_of_the_bus(node: MakeNode) -> None:
    """What several nodes say to one room stands in its log as a listener hears it, offset and all."""
    nodes = [await node(name) for name in ("one", "two", "three")]
    heard: list[bytes | None] = []
    listener = await node("listener")
    listener.on_frame = lambda room, seq, packet, skip, unless: heard.append(packet.offset)
    listener.join("room:a")
    await listener.joined(["room:a"])
    for number in range(100):
        for cluster in nodes:
            cluster.publish("room:a", None, event("x", b"%b.%d" % (cluster.node_id.encode(), number)))
    await until(lambda: len(heard) >= 300, "all is heard")
    assert await said(listener, "room:a") == ({"room:a": heard}, True)


async def test_a_log_that_was_cut_is_whole_from_its_first_entry_on(node: MakeNode) -> None:
    """It keeps a bounded number of entries, and does not pretend that it has those before them."""
    one = await node("one")
    for number in range(LOG_ENTRIES * 2):
        one.publish("room:a", None, event("x", b"%d" % number))
        if number % 100 == 0:
            await one._outbox.flushed.wait()
    assert await said(one, "room:a") == ({}, False)
    last = one.now_ms() + 1_000
    assert await said(one, "room:a", since_ms=last) == ({}, True)
    assert await one._redis.xlen(one._shards.name("room:a")) < LOG_ENTRIES + 101


async def test_a_log_expires_after_its_last_entry(node: MakeNode) -> None:
    """Its expiry is set with its first entry."""
    one = await node("one")
    one.publish("room:a", None, event("x", b"1"))
    await one._outbox.flushed.wait()
    left = await one._redis.pttl(one._shards.name("room:a"))
    assert LOG_SECONDS * 1000 < left <= (LOG_SECONDS + RENEW_SECONDS) * 1000


async def test_too_much_is_not_read(node: MakeNode) -> None:
    """In entries and in bytes."""
    one = await node("one")
    rooms = [f"room:{number}" for number in range(1 + READ_ENTRIES * 2 // LOG_ENTRIES * 2)]
    for number in range(LOG_ENTRIES // 2):
        for room in rooms:
            one.publish(room, None, event("x", b"%d" % number))
    one.publish("room:big", None, event("x" * 2_000_000, b"1"))
    assert (await said(one, *rooms[:3]))[1] is True
    assert await said(one, *rooms) == ({}, False)
    assert await said(one, "room:big") == ({}, False)


async def test_what_could_not_be_logged_is_a_hole(node: MakeNode, stores: EmbeddedServers) -> None:
    """Whoever asks for the time before the writer was back is told that it is not all there."""
    proxy = Proxy(stores.redis_url)
    await proxy.start()
    one, two = await node("one", proxy.url), await node("two")
    before = two.now_ms() - 1
    await proxy.refuse()
    one.publish("room:a", None, event("lost", b"1"))
    await until(lambda: one.failed_publishes > 0, "the failure is noticed")
    await proxy.accept()
    await until(lambda: one.connected, "the bus is back")
    async with Redis.from_url(stores.redis_url) as redis:
        hole = one._log._hole

        async def noted() -> Any:
            return await redis.get(hole)

        while not await noted():
            pass
    assert (await said(two, "room:a", since_ms=before))[1] is False
    assert (await said(two, "room:a", since_ms=one.now_ms() + 1_000))[1] is True
    await one.stop()
    await proxy.close()


async def test_nodes_agree_on_the_time(node: MakeNode, stores: EmbeddedServers) -> None:
    """It is Redis's, within the time of a round trip."""
    one, two = await node("one"), await node("two")
    await until(lambda: one._clock._sampled and two._clock._sampled, "Redis has answered")
    seconds, micros = await one._redis.time()
    assert abs(one.now_ms() - (seconds * 1000 + micros / 1000)) < 1_000
    assert abs(one.now_ms() - two.now_ms()) < 1_000


def test_an_expiry_is_set_now_and_then() -> None:
    """Not with each entry, but again in time, and after a loss."""
    renewals = Renewals()
    assert renewals.due("a", 1)
    assert not renewals.due("a", RENEW_SECONDS)
    assert renewals.due("b", RENEW_SECONDS)
    assert renewals.due("a", RENEW_SECONDS + 1)
    renewals.forget()
    assert renewals.due("a", RENEW_SECONDS + 2)


@given(st.integers(0, 10**13), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=20))
def test_the_estimate_lies_within_what_every_answer_allows(redis_ahead: int, trips: list[tuple[float, float]]) -> None:
    """However slow the way there and the way back, and it never moves away from the truth."""
    now = 100.0
    clock = RedisClock(lambda: now, lambda: 1_000.0)
    assert clock.now_ms() == 1_000_000
    errors = []
    for there, back in trips:
        asked = clock.monotonic()
        now += there
        redis_ms = now * 1000 + redis_ahead
        now += back
        clock.sample(asked, redis_ms)
        errors.append(abs(clock.now_ms() - (now * 1000 + redis_ahead)))
        assert errors[-1] <= max(there, back) * 1000 + 2
    assert all(later <= earlier + 2 for earlier, later in itertools.pairwise(errors))
