"""Sessions from their token to their end, and the people behind them, over the wire."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from auth.tokens import issue_token
from server.embedded import EmbeddedServers
from storage.mongo import Mongo
from tests.clients.user import Client, Refused, eventually, ok, refused
from tests.nodes import SECRET, Node
from tests.proxy import Proxy

Connect = Callable[..., Any]
StartNode = Callable[..., Any]
UserId = Callable[[str], str]
EXPIRY_SECONDS = 5.0
"""The contract: within this time after its token a session is over."""


def moment(text: str) -> float:
    """A time of the wire in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


async def listed(client: Client) -> list[str]:
    """The ids of a user's sessions, as one of them is told."""
    return [session["sessionId"] for session in (await ok(client, "session:list"))["sessions"]]


def session_id(client: Client) -> str:
    """The id that a session was greeted with."""
    return str(client.received.of("session:ready")[0]["sessionId"])


async def test_a_session_ends_with_its_token(server: Node, connect: Connect, user_id: UserId, client_kind: str) -> None:
    """A token of less than a minute: warned at once, after the greeting; told and disconnected when it is over."""
    alice = user_id("alice")
    device = await connect(server, alice, kind=client_kind, token=server.token(alice, ttl_seconds=1), reconnection=True)
    assert [name for name, _ in device.received.all][:1] == ["session:ready"]
    expires_at = device.received.of("session:ready")[0]["expiresAt"]
    assert await device.received.next("session:expiring") == {"expiresAt": expires_at}
    assert await device.received.next("session:closed") == {"code": "TOKEN_EXPIRED", "reconnect": False}
    assert 0 <= time.time() - moment(expires_at) < EXPIRY_SECONDS
    await eventually(lambda: not device.connected)
    with pytest.raises(Refused) as caught:
        await connect(server, alice, kind=client_kind, token=server.token(alice, ttl_seconds=-5))
    assert caught.value.data == {"code": "TOKEN_EXPIRED", "retryable": False}


async def test_a_newer_token_keeps_a_session(server: Node, connect: Connect, user_id: UserId) -> None:
    """After `auth:refresh` the session outlives its first token, as the caller that the new one stands for."""
    alice = user_id("alice")
    device = await connect(server, alice, token=server.token(alice, ttl_seconds=1))
    other = await connect(server, alice)
    first_end = moment((await device.received.next("session:expiring"))["expiresAt"])
    answer = await ok(device, "auth:refresh", {"token": server.token(alice, ttl_seconds=600, name="Alice")})
    assert 599 < moment(answer["expiresAt"]) - time.time() < 602
    for client in (device, other):
        assert await client.received.next("user:updated") == {"userId": alice, "name": "Alice", "avatar": None}
    await eventually(lambda: time.time() > first_end + 2.1)
    await ok(device, "room:list")
    assert device.received.of("session:closed") == []

    answer = await ok(device, "auth:refresh", {"token": server.token(alice, ttl_seconds=30)})
    assert await device.received.next("session:expiring") == {"expiresAt": answer["expiresAt"]}


async def test_a_session_is_not_refreshed_by_just_any_token(server: Node, connect: Connect, user_id: UserId) -> None:
    """Each fault by its code, and the session goes on as it was."""
    alice = user_id("alice")
    device = await connect(server, alice)
    token = server.token(alice)
    for bad, code in (
        (server.token(user_id("bob")), "FORBIDDEN"),
        (server.token(alice, ttl_seconds=-5), "TOKEN_EXPIRED"),
        (token[:-2] + ("AA" if token[-2:] != "AA" else "BB"), "TOKEN_INVALID"),
        ("x" * 10_000, "TOKEN_INVALID"),
    ):
        error = await refused(device, "auth:refresh", {"token": bad})
        assert (error["code"], error["retryable"]) == (code, False)
        assert bad not in error["message"]
    assert await listed(device) == [session_id(device)]
    assert device.received.of("session:closed") == []
    assert token not in server.log_text()


async def test_sessions_are_listed_and_ended_on_all_nodes(
    start_node: StartNode, connect: Connect, user_id: UserId, client_kind: str
) -> None:
    """A user sees their own sessions wherever they are, and ends one of them, also the one that asks."""
    one, two = [await start_node() for _ in range(2)]
    alice = user_id("alice")
    phone = await connect(one, alice, kind=client_kind, auth={"deviceId": "phone"}, reconnection=True)
    laptop = await connect(two, alice, kind=client_kind, auth={"deviceId": "laptop"}, reconnection=True)
    tablet = await connect(two, alice)
    stranger = await connect(two, user_id("bob"))

    sessions = (await ok(phone, "session:list"))["sessions"]
    assert [session["sessionId"] for session in sessions] == [session_id(c) for c in (tablet, laptop, phone)]
    assert [(session["deviceId"], session["current"]) for session in sessions] == [
        (None, False),
        ("laptop", False),
        ("phone", True),
    ]
    assert all(abs(moment(session["connectedAt"]) - time.time()) < 60 for session in sessions)

    for unknown in (session_id(stranger), "A" * 20):
        assert (await refused(phone, "session:end", {"sessionId": unknown}))["code"] == "NOT_FOUND"
    closed = {"code": "DISCONNECTED", "reconnect": False}
    await ok(phone, "session:end", {"sessionId": session_id(laptop)})
    assert await laptop.received.next("session:closed") == closed
    await eventually(lambda: not laptop.connected)
    assert await listed(phone) == [session_id(tablet), session_id(phone)]

    await ok(phone, "session:end", {"sessionId": session_id(phone)})
    assert await phone.received.next("session:closed") == closed
    await eventually(lambda: not phone.connected)
    assert await listed(tablet) == [session_id(tablet)]
    assert len(stranger.received.of("session:ready")) == 1
    assert stranger.received.of("session:closed") == []


async def test_a_dead_nodes_sessions_are_not_listed(start_node: StartNode, connect: Connect, user_id: UserId) -> None:
    """Nobody has to clean up after a node that was killed."""
    one, two = [await start_node() for _ in range(2)]
    alice = user_id("alice")
    here, there = await connect(one, alice), await connect(two, alice)
    assert await listed(here) == [session_id(there), session_id(here)]
    two.kill()
    end = time.monotonic() + 5
    while await listed(here) != [session_id(here)]:
        assert time.monotonic() < end


async def test_without_redis_a_node_knows_its_own_sessions(
    stores: EmbeddedServers, start_node: StartNode, connect: Connect, user_id: UserId
) -> None:
    """They are listed and ended; of another it is not said that it is not there."""
    proxy = Proxy(stores.redis_url)
    await proxy.start(refusing=True)
    node = await start_node(redis_url=proxy.url)
    alice = user_id("alice")
    one, two = await connect(node, alice), await connect(node, alice)
    assert await listed(one) == [session_id(two), session_id(one)]
    error = await refused(one, "session:end", {"sessionId": "A" * 20})
    assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
    await ok(one, "session:end", {"sessionId": session_id(two)})
    assert (await two.received.next("session:closed"))["code"] == "DISCONNECTED"
    await proxy.close()


async def test_people_are_shown_as_their_latest_token_says(
    server: Node, connect: Connect, user_id: UserId, client_kind: str
) -> None:
    """Profiles by `user:get`, nulls for who is unknown; a token issued earlier takes nothing back."""
    alice, bob, nobody = user_id("alice"), user_id("bob"), user_id("nobody")
    older = issue_token(alice, secret=SECRET, ttl_seconds=600, now=time.time() - 60, name="Alice B.")
    reader = await connect(server, bob, kind=client_kind)
    alices = await connect(server, alice, token=server.token(alice, name="Alice C."))
    wanted = {"userIds": [alice, bob, nobody]}
    unknown = {"name": None, "avatar": None}
    users = (await ok(reader, "user:get", wanted))["users"]
    assert users == {alice: {"name": "Alice C.", "avatar": None}, bob: unknown, nobody: unknown}

    await connect(server, alice, token=older)
    assert (await ok(reader, "user:get", wanted))["users"] == users
    assert [event["name"] for event in alices.received.of("user:updated")] == ["Alice C."]
    assert reader.received.of("user:updated") == []


async def test_people_who_do_not_fit_into_a_reply_are_left_out(
    server: Node, stores: EmbeddedServers, connect: Connect, user_id: UserId
) -> None:
    """A reply stays below 512 KiB; whoever is not in it is asked for again."""
    mongo = Mongo(stores.mongodb_url, server.database)
    names = [user_id(f"user{number}") for number in range(200)]
    avatar = "ä" * 2_000
    await mongo["users"].insert_many([{"_id": name, "name": name, "avatar": avatar} for name in names])
    await mongo.close()
    reader = await connect(server, user_id("alice"))
    first = (await ok(reader, "user:get", {"userIds": names}))["users"]
    assert 0 < len(first) < 200
    rest = (await ok(reader, "user:get", {"userIds": [name for name in names if name not in first]}))["users"]
    assert [*first, *rest] == names
    assert all(person == {"name": name, "avatar": avatar} for name, person in [*first.items(), *rest.items()])
