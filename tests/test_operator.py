"""Revocation and blocks by the command line: in force on every node within 5 s, also without Redis, and remembered."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from auth.tokens import issue_token
from server.__main__ import main
from server.embedded import EmbeddedServers, running_mongodb_url
from tests.clients.user import Client, Refused, eventually, ok, refused
from tests.nodes import SECRET, Node, free_port
from tests.proxy import Proxy

Connect = Callable[..., Any]
StartNode = Callable[..., Any]
UserId = Callable[[str], str]
IN_FORCE_SECONDS = 5.0


def issued(user_id: str, seconds_ago: float) -> str:
    """A token that has been around for a while."""
    return issue_token(user_id, secret=SECRET, ttl_seconds=3600, now=time.time() - seconds_ago)


def ago(seconds: float) -> str:
    """A time as the command line takes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))


def token_id(token: str) -> str:
    """The `jti` of a token."""
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


async def command(node: Node, *arguments: str, **environment: str) -> str:
    """Run a command that must succeed; returns what it printed."""
    status, output = await node.command(*arguments, **environment)
    assert status == 0, output
    return output


async def closed(*clients: Client) -> list[str]:
    """Why these were closed, each within the time that is promised."""
    codes = []
    for client in clients:
        told = await client.received.next("session:closed", IN_FORCE_SECONDS)
        assert told["reconnect"] is False
        codes.append(told["code"])
    return codes


async def refusal(connect: Connect, node: Node, user_id: str, token: str) -> str:
    """The code with which a handshake is refused."""
    with pytest.raises(Refused) as caught:
        await connect(node, user_id, token=token)
    assert caught.value.data["retryable"] is False
    return str(caught.value.data["code"])


@pytest.mark.parametrize("with_redis", [True, False], ids=["redis", "no redis"])
async def test_a_withdrawn_token_is_out_on_every_node(
    stores: EmbeddedServers, start_node: StartNode, connect: Connect, user_id: UserId, with_redis: bool
) -> None:
    """Its sessions end and it opens none, by `jti`, then by time of issue; a token that is not meant goes on."""
    proxy = Proxy(stores.redis_url)
    await proxy.start(refusing=not with_redis)
    nodes = [await start_node(redis_url=proxy.url) for _ in range(2)]
    alice, bob = user_id("alice"), user_id("bob")
    stolen, older, newer = issued(alice, 10), issued(alice, 600), issued(alice, 60)
    by_stolen = [await connect(node, alice, token=stolen) for node in nodes]
    by_older = [await connect(node, alice, token=older) for node in nodes]
    by_newer = [await connect(node, alice, token=newer) for node in nodes]
    others = [await connect(node, bob, token=issued(bob, 600)) for node in nodes]

    assert token_id(stolen) in await command(nodes[0], "revoke", "--jti", token_id(stolen))
    assert await closed(*by_stolen) == ["TOKEN_REVOKED"] * 2
    assert [await refusal(connect, node, alice, stolen) for node in nodes] == ["TOKEN_REVOKED"] * 2
    assert (await refused(by_newer[0], "auth:refresh", {"token": stolen}))["code"] == "TOKEN_REVOKED"

    await command(nodes[0], "revoke", "--user", alice, "--issued-before", ago(300))
    assert await closed(*by_older) == ["TOKEN_REVOKED"] * 2
    assert [await refusal(connect, node, alice, older) for node in nodes] == ["TOKEN_REVOKED"] * 2
    for client in [*by_newer, *others]:
        await ok(client, "room:list")
        assert client.received.of("session:closed") == []
    await proxy.close()


async def test_a_blocked_user_is_out_until_the_block_is_lifted(
    start_node: StartNode, connect: Connect, user_id: UserId
) -> None:
    """Whatever the token, on every node, also on one that starts later; then they are let in again."""
    one, two = [await start_node() for _ in range(2)]
    alice = user_id("alice")
    devices = [await connect(node, alice, reconnection=True) for node in (one, two)]
    assert "blocked" in await command(one, "block", alice)
    assert await closed(*devices) == ["USER_BLOCKED"] * 2
    await eventually(lambda: not any(device.connected for device in devices))
    await two.restart()
    assert [await refusal(connect, node, alice, node.token(alice)) for node in (one, two)] == ["USER_BLOCKED"] * 2
    assert all(len(device.received.of("session:ready")) == 1 for device in devices)

    await command(one, "block", alice, "--lift")
    end = time.monotonic() + IN_FORCE_SECONDS
    for node in (one, two):
        while True:
            try:
                device = await connect(node, alice)
                break
            except Refused:
                assert time.monotonic() < end
        await ok(device, "room:list")
    status, output = await one.command("block", alice, "--lift")
    assert (status, output.strip()) == (1, f"parley: {alice} is not blocked")


async def test_all_tokens_of_a_user_are_withdrawn_up_to_now(server: Node, connect: Connect, user_id: UserId) -> None:
    """Without `--issued-before` every session ends, and a token issued afterwards is good."""
    alice = user_id("alice")
    devices = [await connect(server, alice, token=issued(alice, seconds)) for seconds in (3000, 1)]
    await command(server, "revoke", "--user", alice)
    now = time.time()
    assert await closed(*devices) == ["TOKEN_REVOKED"] * 2
    await eventually(lambda: time.time() > now + 1)  # `iat` is in whole seconds
    await ok(await connect(server, alice), "room:list")


async def test_a_development_server_is_found_by_its_data(
    stores: EmbeddedServers, server: Node, connect: Connect, user_id: UserId, tmp_path: Path
) -> None:
    """Without MONGODB_URL the commands act on the mongod that a Parley in DATA_DIR has started."""
    assert running_mongodb_url(tmp_path) is None
    alice = await connect(server, user_id("alice"))
    (tmp_path / "ports.json").write_text(json.dumps({"mongod": urlsplit(stores.mongodb_url).port}))
    await command(server, "block", alice.user_id, MONGODB_URL="", DATA_DIR=str(tmp_path))
    assert await closed(alice) == ["USER_BLOCKED"]


WRONG_ARGUMENTS: list[tuple[list[str], str]] = [
    (["revoke"], "one of the arguments --jti --user is required"),
    (["revoke", "--jti", "a", "--user", "b"], "not allowed with"),
    (["revoke", "--user", "a b"], "is no user id"),
    (["revoke", "--jti", ""], "a jti has 1 to 256 characters"),
    (["revoke", "--user", "a", "--issued-before", "yesterday"], "is no ISO 8601 time"),
    (["revoke", "--user", "a", "--issued-before", "2026-01-31T12:00:00"], "has no time zone"),
    (["revoke", "--user", "a", "--issued-before", "2999-01-31T12:00:00Z"], "lies in the future"),
    (["block", "@b"], "is no user id"),
]


@pytest.mark.parametrize(("arguments", "reason"), WRONG_ARGUMENTS)
def test_wrong_arguments_are_named(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One readable line and status 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert (caught.value.code, reason in capsys.readouterr().err) == (2, True)


async def test_a_command_without_effect_says_so(server: Node, tmp_path: Path) -> None:
    """One readable line: status 1 when there is no store to act on, 2 when the arguments do not go together."""
    unused, stopped = tmp_path / "unused", tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "ports.json").write_text(json.dumps({"mongod": free_port()}))
    outcomes = await asyncio.gather(
        server.command("block", "ann", MONGODB_URL="", DATA_DIR=str(unused)),
        server.command("block", "ann", MONGODB_URL="", DATA_DIR=str(stopped)),
        server.command("revoke", "--jti", "a", "--issued-before", ago(60)),
    )
    assert list(outcomes) == [
        (1, f"parley: no Parley has run in DATA_DIR {unused}: start one there, or set MONGODB_URL\n"),
        (1, f"parley: no Parley runs in DATA_DIR {stopped}: start it, or set MONGODB_URL\n"),
        (2, "parley: --issued-before goes with --user\n"),
    ]
