"""The bus, the logs and presence on more than one Redis server, also while one of them dies."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from presence.redis_state import RedisState
from presence.state import Report
from protocol.types import PresenceStatus
from realtime.frames import Packet
from server.redis_source import redis_source
from tests.clients.user import Client, ok
from tests.ears import Ear, MakeEar, ears
from tests.senders import until
from tests.valkeys import Servers, cluster_of_three, watched_pair

ROOMS = [f"room:{number}" for number in range(60)]
BACK_SECONDS = 10.0

Connect = Callable[..., Any]
StartNode = Callable[..., Any]
UserId = Callable[[str], str]


@pytest.fixture(params=[watched_pair, cluster_of_three], ids=["sentinel", "cluster"])
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    """A master and a replica under a sentinel, and a cluster with a master that has one."""
    async with request.param() as found:
        yield found


@pytest.fixture
async def ear(servers: Servers) -> AsyncIterator[MakeEar]:
    """Nodes of one cluster: `await ear("name")`."""
    async with ears(servers[0], f"test_{secrets.token_hex(8)}") as make:
        yield make


async def test_everything_works_on_several_servers(ear: MakeEar, servers: Servers) -> None:
    """Order, requests, logs and presence, over rooms of every shard."""
    one, two = await ear("one"), await ear("two")
    await two.hear(*ROOMS)
    for seq in range(1, 6):
        for room in ROOMS:
            one.cluster.publish(room, seq, Packet(b"42[]", offset=b"%d" % seq))
    assert await one.cluster.request(ROOMS, ["change"])
    assert two.changes == [["change"]] * len(ROOMS)
    for room in ROOMS:
        assert [seq for name, seq, _ in two.frames if name == room] == [1, 2, 3, 4, 5]
    entries, complete = await two.cluster.read_log(ROOMS, 0)
    assert complete
    assert entries.keys() == set(ROOMS)
    assert all([entry.frame.seq for entry in found] == [1, 2, 3, 4, 5] for found in entries.values())

    source = redis_source(servers[0])
    state = RedisState(source.client(timeout_seconds=2, text=True), "test", "node")
    await state.beat(0.05)
    await state.report({f"user{number}": Report(PresenceStatus.ONLINE, 1, 1) for number in range(20)})
    found = await state.read(["user1", "user19"])
    assert found["user19"].reports == {"node": Report(PresenceStatus.ONLINE, 1, 1)}
    await asyncio.sleep(0.1)  # the life of that node
    assert len(await state.sweep() or ()) == 20
    await state.close()
    await source.close()


async def test_a_master_that_dies_is_replaced(ear: MakeEar, servers: Servers) -> None:
    """Under load: the bus comes back on the new master, says that all rooms have a gap, and carries on in order."""
    _, master, replica = servers
    one, two = await ear("one"), await ear("two")
    await two.hear(*ROOMS)
    two.gaps.clear()
    load = asyncio.create_task(_publish_on(one))
    await until(lambda: len(two.frames) > 500, "messages flow")
    before = one.cluster.now_ms()
    master.kill()
    await until(lambda: not (one.cluster.connected or two.cluster.connected), "the loss is noticed")
    await replica.until(replica.is_master)
    await until(lambda: one.cluster.connected and two.cluster.connected, "the bus is back", BACK_SECONDS)
    assert set(ROOMS) <= set(two.gaps)
    heard = len(two.frames)
    await until(lambda: len(two.frames) > heard + 500, "messages flow again")
    load.cancel()
    for room in ROOMS:
        seqs = [seq or 0 for name, seq, _ in two.frames if name == room]
        assert seqs == sorted(set(seqs))
    assert one.cluster.failed_publishes > 0
    assert one.cluster.losses == two.cluster.losses == 1
    assert (await two.cluster.read_log(ROOMS, before))[1] is False


async def _publish_on(ear: Ear) -> None:
    """Messages to all rooms, for ever."""
    seq = 0
    while True:
        seq += 1
        for room in ROOMS:
            ear.cluster.publish(room, seq, Packet(b"42[]", offset=b"%d" % seq))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("servers", [cluster_of_three], ids=["cluster"], indirect=True)
async def test_two_nodes_serve_on_a_cluster(
    servers: Servers, start_node: StartNode, connect: Connect, user_id: UserId
) -> None:
    """A whole Parley: messages pass between nodes, and people are shown online."""
    nodes = [await start_node(redis_url=servers[0]) for _ in range(2)]
    alice, bob = await connect(nodes[0], user_id("alice")), await connect(nodes[1], user_id("bob"))
    room = (await ok(alice, "room:create", {"kind": "group", "memberIds": [bob.user_id]}))["room"]["roomId"]
    for number in range(20):
        await ok(alice, "message:send", {"roomId": room, "text": str(number)})
    heard = await bob.received.until("message:received", 20)
    assert [message["text"] for message in heard] == [str(number) for number in range(20)]
    await until_online(alice, bob.user_id)


async def until_online(client: Client, user_id: str) -> None:
    """Wait until a client is shown somebody online."""
    end = time.monotonic() + BACK_SECONDS
    while (await ok(client, "presence:get", {"userIds": [user_id]}))["users"][user_id]["status"] != "online":
        assert time.monotonic() < end, "still offline"
        await asyncio.sleep(0.05)
