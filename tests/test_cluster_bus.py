"""The bus between nodes, directly on Valkey: order, confirmation, and knowing what may have been missed."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from realtime.frames import Packet
from realtime.listener import SUBSCRIBE_SECONDS
from realtime.requests import ANSWER_SECONDS
from server.embedded import EmbeddedServers
from tests.ears import MakeEar, ears
from tests.proxy import Proxy
from tests.senders import until

SILENT_SECONDS = 4.0
"""Within this time a connection that says nothing must count as lost."""


@pytest.fixture
async def proxy(stores: EmbeddedServers) -> AsyncIterator[Proxy]:
    """A proxy before Valkey."""
    proxy = Proxy(stores.redis_url)
    await proxy.start()
    yield proxy
    await proxy.close()


@pytest.fixture
async def ear(stores: EmbeddedServers) -> AsyncIterator[MakeEar]:
    """Nodes of one cluster: `await ear("name", url)`."""
    async with ears(stores.redis_url, f"test_{secrets.token_hex(8)}") as make:
        yield make


async def test_frames_arrive_in_order_at_listeners_only(ear: MakeEar) -> None:
    """What one node publishes reaches the nodes that listen to the room, in order, and never itself."""
    one, two, three = [await ear(name) for name in ("one", "two", "three")]
    await one.hear("room:a")
    await two.hear("room:a")
    for seq in range(1, 501):
        one.cluster.publish("room:a", seq, Packet(b"payload %d" % seq))
    one.cluster.publish("room:b", None, Packet(b"nobody listens"))
    await until(lambda: len(two.frames) >= 500, "all arrive")
    assert two.frames == [("room:a", seq, b"payload %d" % seq) for seq in range(1, 501)]
    assert (one.frames, three.frames) == ([], [])
    assert one.cluster.echoes >= 500
    assert three.cluster.taken < 50  # heartbeats: it is not sent what nobody there would hear


async def test_a_node_alone_publishes_nothing_and_who_comes_is_told_to_read(
    ear: MakeEar, stores: EmbeddedServers
) -> None:
    """What nobody could hear is not sent; a node that comes later is sent to the store for it, then hears all."""
    one = await ear("one")
    await one.hear("room:a")
    async with Redis.from_url(stores.redis_url) as redis:
        sent = (await redis.info("commandstats"))["cmdstat_publish"]["calls"]
        for seq in range(1, 1_001):
            one.cluster.publish("room:a", seq, Packet(b"alone"))
            assert await one.cluster.tell(["room:a"], ["admit"])
        await one.cluster.ping()
        assert (await redis.info("commandstats"))["cmdstat_publish"]["calls"] - sent < 100  # its heartbeat goes on
    two = await ear("two", wait=False)
    await two.hear("room:a")
    await until(lambda: two.gaps.count("room:a") == 2, "it is told when it connects, and when it is known")
    one.cluster.publish("room:a", 1_001, Packet(b"heard"))
    await until(lambda: two.frames == [("room:a", 1_001, b"heard")], "it hears what comes from then on")


async def test_a_request_returns_when_all_who_got_it_have_applied_it(ear: MakeEar) -> None:
    """It stands in line behind earlier frames, and says whether everybody has answered."""
    one, two, three = [await ear(name) for name in ("one", "two", "three")]
    for each in (one, two, three):
        await each.hear("room:a", "user:x")
    for seq in range(1, 101):
        one.cluster.publish("room:a", seq, Packet(b""))
    assert await one.cluster.request(["room:a", "user:x", "user:nobody"], ["expel", "a", ["x"]])
    for other in (two, three):
        assert other.changes == [["expel", "a", ["x"]]] * 2
        assert len(other.frames) == 100
    assert one.changes == []


async def test_a_request_does_not_wait_for_ever(ear: MakeEar, proxy: Proxy) -> None:
    """A node that hangs delays the asker by a second at most; without Redis it is told at once."""
    one, two = await ear("one"), await ear("two", proxy.url)
    await two.hear("room:a")
    proxy.stall()
    began = time.monotonic()
    assert not await one.cluster.request(["room:a"], ["change"])
    assert ANSWER_SECONDS * 0.9 < time.monotonic() - began < ANSWER_SECONDS + 0.5
    proxy.flow()
    await until(lambda: two.changes == [["change"]], "it is applied after all")
    await proxy.refuse()
    await until(lambda: not two.cluster.connected, "the loss is noticed")
    began = time.monotonic()
    assert not await two.cluster.request(["room:a"], ["change"])
    assert time.monotonic() - began < 0.5


async def test_after_a_loss_everything_is_heard_again_and_said_to_have_a_gap(ear: MakeEar, proxy: Proxy) -> None:
    """A cut connection comes back by itself with all its rooms, also those joined meanwhile, and tells of the gap."""
    one, two = await ear("one"), await ear("two", proxy.url)
    await two.hear("room:a", "room:b")
    two.gaps.clear()
    await proxy.refuse()
    await until(lambda: not two.cluster.connected, "the loss is noticed")
    two.cluster.join("room:c")
    two.cluster.leave("room:b")
    await two.cluster.joined(["room:c"])
    await proxy.accept()
    await two.connected()
    assert {"room:a", "room:c"} <= set(two.gaps)
    for room in ("room:a", "room:b", "room:c"):
        one.cluster.publish(room, 1, Packet(b""))
    await until(lambda: len(two.frames) >= 2, "both arrive")
    assert [room for room, _, _ in two.frames] == ["room:a", "room:c"]


async def test_rooms_joined_while_the_bus_connects_do_not_keep_it_from_connecting(ear: MakeEar, proxy: Proxy) -> None:
    """Under a stream of joins the bus comes back, and every one of them is heard."""
    two = await ear("two", proxy.url)
    for burst in range(20):
        proxy.cut()
        for number in range(50):
            two.cluster.join(f"room:{burst}-{number}")
            await asyncio.sleep(0.001)
    await until(lambda: two.cluster.connected and two.cluster._listener.rooms.complete, "the bus is there")
    one = await ear("one")
    await until(lambda: bool(one.cluster._nodes), "it knows of the other one")
    for burst in range(20):
        for number in range(50):
            one.cluster.publish(f"room:{burst}-{number}", 1, Packet(b""))
    await until(lambda: len(two.frames) >= 1000, "all are heard")


async def test_a_room_left_and_joined_again_is_heard_from_the_confirmation_on(ear: MakeEar) -> None:
    """However fast a room empties and fills, once its channel is confirmed nothing said there is missed."""
    one, two = await ear("one"), await ear("two")
    rounds = 100
    for number in range(1, rounds + 1):
        two.cluster.join("room:a")
        for _ in range(number % 4):
            await asyncio.sleep(0)
            two.cluster.leave("room:a")
            await asyncio.sleep(0)
            two.cluster.join("room:a")
        await two.cluster.joined(["room:a"])
        one.cluster.publish("room:a", number, Packet(b""))
        await until(lambda count=number: len(two.frames) == count, "it is heard", 2)  # type: ignore[misc]
        two.cluster.leave("room:a")


async def test_who_gave_up_waiting_for_a_channel_is_told_when_it_stands(ear: MakeEar, proxy: Proxy) -> None:
    """The wait is bounded; a channel confirmed after it may have missed something, and says so."""
    await ear("one")
    two = await ear("two", proxy.url)
    await until(lambda: bool(two.cluster._nodes), "it knows of the other node")
    two.gaps.clear()
    proxy.stall()
    two.cluster.join("room:a")
    began = time.monotonic()
    await two.cluster.joined(["room:a"])
    assert time.monotonic() - began < SUBSCRIBE_SECONDS + 0.5
    proxy.flow()
    await until(lambda: "room:a" in two.gaps, "the gap is told")


async def test_a_node_that_did_not_wait_is_told_when_another_may_have_published(ear: MakeEar, proxy: Proxy) -> None:
    """A node alone does not wait for its channels; one that turns up before they stand may have been missed."""
    two = await ear("two", proxy.url)
    proxy.stall()
    two.cluster.join("room:a")
    await two.cluster.joined(["room:a"])
    two.gaps.clear()
    one = await ear("one")
    one.cluster.publish("room:a", 1, Packet(b"before it stands"))
    proxy.flow()
    await until(lambda: "room:a" in two.gaps, "the gap is told")


async def test_what_could_not_be_published_is_said_to_be_missing(ear: MakeEar, proxy: Proxy) -> None:
    """When the publisher is back, the nodes that listen to the rooms concerned are told to look into the store."""
    one, two = await ear("one", proxy.url), await ear("two")
    await two.hear("room:a", "room:b")
    two.gaps.clear()
    await proxy.refuse()
    one.cluster.publish("room:a", 1, Packet(b"lost"))
    await until(lambda: one.cluster.failed_publishes > 0, "the failure is noticed")
    await proxy.accept()
    await until(lambda: bool(two.gaps), "the gap is told")
    assert two.gaps == ["room:a"]
    assert two.frames == []


async def test_it_stops_at_any_moment(ear: MakeEar) -> None:
    """Also right after it began, when its tasks are about to connect, subscribe and publish."""
    for number in range(30):
        one = await ear(f"one-{number}", wait=False)
        one.cluster.join("room:a")
        await asyncio.sleep(number / 10_000)
        async with asyncio.timeout(5):
            await one.cluster.stop()


async def test_a_silent_connection_counts_as_lost(ear: MakeEar, proxy: Proxy) -> None:
    """A Redis that hangs is noticed within seconds, though the connection stands."""
    two = await ear("two", proxy.url)
    proxy.stall()
    await until(lambda: not two.cluster.connected, "the silence is noticed", SILENT_SECONDS)
    proxy.flow()
    await two.connected()


async def test_a_node_that_falls_silent_is_missed_and_one_that_leaves_is_not(ear: MakeEar, proxy: Proxy) -> None:
    """A node cut off from Redis is noticed by the others until it is heard again; an orderly goodbye is no silence."""
    one, two, three = await ear("one"), await ear("two", proxy.url), await ear("three")
    await until(lambda: {*one.cluster._nodes} == {"two", "three"}, "the nodes know each other")
    await three.cluster.stop()
    await until(lambda: {*one.cluster._nodes} == {"two"}, "the goodbye is heard")
    assert one.cluster.hears_all
    await proxy.refuse()
    await until(lambda: not one.cluster.hears_all, "the silence is noticed", SILENT_SECONDS)
    assert one.cluster.connected
    await proxy.accept()
    await two.connected()
    await until(lambda: one.cluster.hears_all, "it is heard again")


async def test_rubbish_on_the_bus_is_dropped(ear: MakeEar) -> None:
    """Whatever else is published on our channels harms nobody."""
    one, two = await ear("one"), await ear("two")
    await two.hear("room:a")
    kinds = b"\x93\x02\xa1x\x00", b"\x94\x02\xa1x\x00\x05", b"\x94\x02\xa1x\x01\x90", b"\x94\x63\xa1x\x00\x90"
    for rubbish in (b"", b"\xc1", b"\x80", *kinds):
        await one.cluster._redis.publish(f"{two.cluster._shards.name('room:a')}", rubbish)
    one.cluster.publish("room:a", 7, Packet(b"fine"))
    await until(lambda: bool(two.frames), "the frame arrives")
    assert two.frames == [("room:a", 7, b"fine")]
