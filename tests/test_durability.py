"""What was acknowledged is there, once, in order: after a node dies, after MongoDB dies, after an orderly stop."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from server.embedded import EmbeddedServers
from tests.clients.user import ok
from tests.nodes import Node
from tests.senders import Sender, check_log, make_room, stored_log, until

Connect = Callable[..., Any]
StartNode = Callable[..., Any]
SENDERS = 4
ENOUGH = 400
"""Acknowledged messages before something is killed: the senders are at full speed by then."""


@pytest.fixture
async def own_stores(tmp_path: Path) -> AsyncIterator[EmbeddedServers]:
    """A mongod and a Valkey that a test may kill."""
    servers = EmbeddedServers(tmp_path, mongodb=True, redis=True)
    await servers.start()
    yield servers
    await servers.stop()


async def make_senders(node: Node, user_id: Callable[[str], str]) -> list[Sender]:
    """Members of one room, about to write to it."""
    names = [user_id(f"sender{number}") for number in range(SENDERS)]
    room_id = await make_room(node, names[0], names[1:])
    return [Sender(name, room_id) for name in names]


def acknowledged(senders: list[Sender]) -> int:
    """How many sends were acknowledged so far."""
    return sum(len(sender.acks) for sender in senders)


async def check_all_once(node: Node, mongodb_url: str, senders: list[Sender]) -> None:
    """What was acknowledged is there; the rest is sent again; then everything is there once."""
    room_id = senders[0].room_id
    check_log(await stored_log(mongodb_url, node.database, room_id), senders)
    await asyncio.gather(*(sender.resend(node) for sender in senders))
    log = await stored_log(mongodb_url, node.database, room_id)
    check_log(log, senders)
    assert len(log) == acknowledged(senders)


async def test_a_killed_node_loses_nothing_that_it_acknowledged(
    start_node: StartNode, stores: EmbeddedServers, user_id: Callable[[str], str]
) -> None:
    """After `kill -9` of the node at full speed the log holds every acknowledged message once; retries add the rest."""
    node = await start_node()
    senders = await make_senders(node, user_id)
    running = [asyncio.create_task(sender.run(node)) for sender in senders]
    await until(lambda: acknowledged(senders) > ENOUGH, "senders at full speed")
    node.kill()
    await asyncio.gather(*running)
    assert any(sender.unknown for sender in senders)
    await node.start()
    await check_all_once(node, stores.mongodb_url, senders)


async def test_a_killed_mongod_loses_nothing_that_was_acknowledged(
    own_stores: EmbeddedServers, start_node: StartNode, user_id: Callable[[str], str]
) -> None:
    """After `kill -9` of mongod at full speed the same holds, and the node goes on by itself when it is back."""
    node = await start_node(mongodb_url=own_stores.mongodb_url, redis_url=own_stores.redis_url)
    senders = await make_senders(node, user_id)
    running = [asyncio.create_task(sender.run(node)) for sender in senders]
    await until(lambda: acknowledged(senders) > ENOUGH, "senders at full speed")
    killed = own_stores.pids["mongod"]
    os.kill(killed, signal.SIGKILL)
    await until(lambda: own_stores.pids.get("mongod", killed) != killed, "a new mongod")
    before = acknowledged(senders)
    await until(lambda: acknowledged(senders) > before + ENOUGH, "senders at full speed again", seconds=40)
    for sender in senders:
        sender.stop()
    await asyncio.gather(*running)
    assert {code for sender in senders for code in sender.failures} <= {"UNAVAILABLE", "TIMEOUT"}
    await check_all_once(node, own_stores.mongodb_url, senders)


async def test_an_orderly_stop_under_load_keeps_what_was_acknowledged(
    start_node: StartNode,
    stores: EmbeddedServers,
    user_id: Callable[[str], str],
    connect: Connect,
    client_kind: str,
) -> None:
    """SIGTERM ends a node within seconds and with status 0; clients are told, and come back by themselves."""
    node = await start_node()
    senders = await make_senders(node, user_id)
    device = await connect(node, senders[0].user_id, kind=client_kind, reconnection=True)
    running = [asyncio.create_task(sender.run(node)) for sender in senders]
    await until(lambda: acknowledged(senders) > ENOUGH, "senders at full speed")
    began = time.monotonic()
    assert await node.terminate() == 0
    assert time.monotonic() - began < 8
    await asyncio.gather(*running)
    closed = (await device.received.until("session:closed", 1))[0]
    assert (closed["code"], closed["reconnect"]) == ("SERVER_DRAINING", True)
    await node.start()
    await device.received.until("session:ready", 2)
    await ok(device, "message:history", {"roomId": senders[0].room_id})
    await check_all_once(node, stores.mongodb_url, senders)
