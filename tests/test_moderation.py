"""Slow mode, reports, and direct rooms to strangers over the wire (wire contract, sections 3 and 4)."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient

from handlers.read_cache import ENTRIES_MAX, FRESH_SECONDS, ReadCache
from server.embedded import EmbeddedServers
from storage.direct_quotas import STRANGERS_PER_DAY, DirectQuotas
from storage.members import MemberStore
from storage.mongo import Mongo
from storage.slow_mode import NO_WAIT, SlowMode
from tests.clients.user import eventually, ok, refused
from tests.nodes import Node

Connect = Callable[..., Any]
UserId = Callable[[str], str]
DAY_MS = 24 * 3600 * 1000


# --- slow mode -----------------------------------------------------------------------------------------------------


async def test_slow_mode_holds_members_back(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId, client_kind: str
) -> None:
    """A member's next send waits, whichever of two nodes it comes by; admins' do not, and a retry is no next send."""
    one, two = await asyncio.gather(start_node(), start_node())
    bob = user_id("bob")
    alice, phone, laptop = await asyncio.gather(
        connect(one, user_id("alice")), connect(one, bob, kind=client_kind), connect(two, bob)
    )
    room = (await ok(alice, "room:create", {"kind": "group", "memberIds": [bob]}))["room"]
    here = {"roomId": room["roomId"]}
    for device in (phone, laptop):
        await ok(device, "message:send", {**here, "text": "at will"})
    assert (await ok(alice, "room:update", {**here, "slowModeSeconds": 60}))["room"]["slowModeSeconds"] == 60
    first = {**here, "text": "slowly", "clientId": "one"}
    sent = await ok(laptop, "message:send", first)
    for device in (phone, laptop):
        error = await refused(device, "message:send", {**here, "text": "at once", "clientId": "two"})
        assert (error["code"], error["retryable"]) == ("RATE_LIMITED", True)
        assert 50_000 < error["retryAfterMs"] <= 60_000
        assert await ok(device, "message:send", first) == {**sent, "duplicate": True}
    for number in range(3):
        await ok(alice, "message:send", {**here, "text": f"admins do {number}"})
    await ok(alice, "room:update", {**here, "slowModeSeconds": 0})
    for device in (phone, laptop):
        await ok(device, "message:send", {**here, "text": "at will again"})


async def test_slow_mode_lets_one_of_many_through(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId
) -> None:
    """Of sends at the same instant on two nodes exactly one is taken; after retryAfterMs the next one is."""
    nodes = await asyncio.gather(start_node(), start_node())
    bob = user_id("bob")
    alice = await connect(nodes[0], user_id("alice"))
    here = {"roomId": (await ok(alice, "room:create", {"kind": "group", "memberIds": [bob]}))["room"]["roomId"]}
    devices = [await connect(node, bob) for node in nodes for _ in range(2)]
    await ok(alice, "room:update", {**here, "slowModeSeconds": 60})
    message = {**here, "text": "now"}
    answers = await asyncio.gather(*(device.call("message:send", message) for device in devices * 3))
    assert sorted(answer["success"] for answer in answers) == [False] * 11 + [True]
    await ok(alice, "room:update", {**here, "slowModeSeconds": 3})
    error = await refused(devices[0], "message:send", message)
    assert 0 < error["retryAfterMs"] <= 3000
    await asyncio.sleep(error["retryAfterMs"] / 1000)
    await ok(devices[3], "message:send", message)


async def test_both_drivers_keep_slots(mongo: Mongo) -> None:
    """A slot is free again after the pause, at once when given back, and stays with its clientId."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    members, slow_mode = MemberStore(mongo, lambda: now), SlowMode(mongo, lambda: now)
    await members.join("room", "bob")
    pause = timedelta(seconds=10)
    assert await slow_mode.take("room", "bob", pause, "a") == NO_WAIT
    now += timedelta(seconds=4)
    assert await slow_mode.take("room", "bob", pause, None) == timedelta(seconds=6)
    assert await slow_mode.take("room", "bob", pause, "a") == NO_WAIT
    await slow_mode.give_back("room", "bob")
    assert await slow_mode.take("room", "bob", pause, None) == NO_WAIT
    now += pause
    taken = await asyncio.gather(*(slow_mode.take("room", "bob", pause, None) for _ in range(5)))
    assert sorted(taken) == [NO_WAIT, *[pause] * 4]
    assert await slow_mode.take("room", "nobody", pause, None) == NO_WAIT
    await members.close()


# --- strangers -----------------------------------------------------------------------------------------------------


async def test_direct_rooms_to_strangers_are_limited(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId
) -> None:
    """20 a day, on all nodes together and across restarts; who shares a room, or is known already, does not count."""
    one, two = await asyncio.gather(start_node(), start_node())
    alice = user_id("alice")
    devices = await asyncio.gather(connect(one, alice), connect(two, alice))
    friend = user_id("friend")
    await ok(devices[0], "room:create", {"kind": "group", "memberIds": [friend]})
    strangers = [user_id(f"stranger{number}") for number in range(STRANGERS_PER_DAY + 4)]
    answers = await asyncio.gather(
        *(
            devices[number % 2].call("room:create", {"kind": "direct", "memberIds": [name]})
            for number, name in enumerate(strangers)
        )
    )
    refusals = [answer["error"] for answer in answers if not answer["success"]]
    assert {error["code"] for error in refusals} == {"RATE_LIMITED"}
    assert len(refusals) == 4
    assert all(DAY_MS - 60_000 < error["retryAfterMs"] <= DAY_MS for error in refusals)
    await one.restart()
    again = await connect(one, alice)
    for name, answer in zip(strangers, answers, strict=True):
        if answer["success"]:
            known = await ok(again, "room:create", {"kind": "direct", "memberIds": [name]})
            assert known["room"]["roomId"] == answer["room"]["roomId"]
    await ok(again, "room:create", {"kind": "direct", "memberIds": [friend]})
    wanted = {"kind": "direct", "memberIds": [user_id("one-more")]}
    assert (await refused(again, "room:create", wanted))["code"] == "RATE_LIMITED"
    assert (await ok(again, "room:list", {"limit": 100}))["nextCursor"] is None


async def test_both_drivers_count_strangers(mongo: Mongo) -> None:
    """The window slides: a place is free a day after it was taken; the same stranger takes one only."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    quotas = DirectQuotas(mongo, lambda: now)
    taken = await asyncio.gather(*(quotas.take("alice", f"u{number}") for number in range(5)), quotas.take("bob", "u1"))
    assert taken == [None] * 6
    now += timedelta(hours=1)
    for number in range(STRANGERS_PER_DAY):
        assert await quotas.take("alice", f"u{number}") is None
    assert await quotas.take("alice", "one more") == timedelta(hours=23)
    now += timedelta(hours=23)
    assert [await quotas.take("alice", f"more{number}") for number in range(6)] == [None] * 5 + [timedelta(hours=1)]


# --- reports -------------------------------------------------------------------------------------------------------


async def test_reports_are_kept(
    server: Node, connect: Connect, user_id: UserId, stores: EmbeddedServers, client_kind: str
) -> None:
    """One a reporter and message, with the text as it stood; only of messages that the reporter can see."""
    alice, bob, eve = await asyncio.gather(
        connect(server, user_id("alice")), connect(server, user_id("bob"), kind=client_kind),
        connect(server, user_id("eve")),
    )  # fmt: skip
    room = (await ok(alice, "room:create", {"kind": "group", "memberIds": [bob.user_id]}))["room"]
    message = {"roomId": room["roomId"], "seq": 1}
    await ok(alice, "message:send", {"roomId": room["roomId"], "text": "rude words"})
    for reason in ("rude", "still rude"):
        assert await ok(bob, "message:report", {**message, "reason": reason}) == {"success": True}
    for client, payload, code in (
        (bob, {**message, "seq": 2, "reason": "x"}, "NOT_FOUND"),
        (bob, {**message, "seq": 2**53 - 1, "reason": "x"}, "NOT_FOUND"),
        (eve, {**message, "reason": "x"}, "NOT_FOUND"),
        (bob, {**message, "roomId": "A" * 22, "reason": "x"}, "NOT_FOUND"),
        (bob, message, "VALIDATION_ERROR"),
        (bob, {**message, "reason": " "}, "VALIDATION_ERROR"),
        (bob, {**message, "reason": "x" * 1001}, "VALIDATION_ERROR"),
        (bob, {**message, "seq": 0, "reason": "x"}, "VALIDATION_ERROR"),
    ):
        assert (await refused(client, "message:report", payload))["code"] == code, payload
    await ok(alice, "message:report", {**message, "reason": "r" * 1000})
    mongo = Mongo(stores.mongodb_url, server.database, client_class=AsyncIOMotorClient)
    kept = await mongo["reports"].find({"roomId": room["roomId"]}).sort("createdAt", 1).to_list(None)
    await mongo.close()
    assert [(report["reporterId"], report["reason"], report["text"]) for report in kept] == [
        (bob.user_id, "rude", "rude words"),
        (alice.user_id, "r" * 1000, "rude words"),
    ]
    assert (kept[0]["seq"], kept[0]["senderId"]) == (1, alice.user_id)


# --- what a node remembers -----------------------------------------------------------------------------------------


async def test_a_remembered_value_is_fresh_or_forgotten() -> None:
    """It is read once while fresh; what was being read while something changed is not remembered; the oldest go."""
    now, reads = 0.0, []
    gate = asyncio.Event()
    gate.set()

    async def load(key: int) -> int:
        reads.append(key)
        await gate.wait()
        return len(reads)

    cache = ReadCache(load, lambda: now)
    assert (cache.peek(7), await cache.get(7), await cache.get(7), cache.peek(7)) == (None, 1, 1, 1)
    now += FRESH_SECONDS
    assert (cache.peek(7), await cache.get(7)) == (None, 2)
    cache.forget(7)
    gate.clear()
    reading = asyncio.create_task(cache.get(7))
    await eventually(lambda: len(reads) == 3)
    cache.forget(7)
    gate.set()
    assert (await reading, cache.peek(7)) == (3, None)
    for key in range(ENTRIES_MAX + 1):
        await cache.get(key)
    assert (cache.peek(0), cache.peek(ENTRIES_MAX) is not None) == (None, True)
