"""The handshake: who comes in, who is refused and how they are told (wire contract, section 1)."""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import pytest

from tests.clients.raw import ENDPOINT, raw_socket
from tests.clients.user import Refused, ok
from tests.conftest import CLIENTS
from tests.nodes import SECRET, Node, token

Connect = Callable[..., Any]
UserId = Callable[[str], str]

READY = {
    "protocol", "features", "limits", "userId", "sessionId", "deviceId", "serverTime", "expiresAt", "rooms",
    "nextCursor", "totalUnread", "unreadNotifications", "syncToken",
}  # fmt: skip


def signed(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    """A token with just these claims."""
    return jwt.encode(claims, secret, algorithm)


def unsigned(claims: dict[str, Any]) -> str:
    """A token with `alg: none` and no signature."""
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def hour() -> dict[str, Any]:
    """Claims that would do but for `sub`."""
    return {"iat": int(time.time()), "exp": int(time.time()) + 3600}


REFUSALS: dict[str, tuple[Callable[[], Any], str]] = {
    "null": (lambda: None, "AUTH_REQUIRED"),
    "empty": (lambda: "", "AUTH_REQUIRED"),
    "a number": (lambda: 17, "TOKEN_INVALID"),
    "true": (lambda: True, "TOKEN_INVALID"),
    "an object": (lambda: {"$ne": None}, "TOKEN_INVALID"),
    "a list": (lambda: [token("alice")], "TOKEN_INVALID"),
    "malformed": (lambda: "not.a.token", "TOKEN_INVALID"),
    "one word": (lambda: "token", "TOKEN_INVALID"),
    "surrogate": (lambda: token("alice") + "\ud800", "TOKEN_INVALID"),
    "huge": (lambda: "a" * 100_000, "TOKEN_INVALID"),
    "expired": (lambda: signed({"sub": "alice", "exp": int(time.time()) - 1}), "TOKEN_EXPIRED"),
    "not yet": (lambda: signed({"sub": "alice", **hour(), "nbf": int(time.time()) + 60}), "TOKEN_INVALID"),
    "alg none": (lambda: unsigned({"sub": "alice", **hour()}), "TOKEN_INVALID"),
    "wrong key": (
        lambda: signed({"sub": "alice", **hour()}, "another-secret-that-is-long-enough-too"),
        "TOKEN_INVALID",
    ),
    "no signature": (lambda: token("alice").rpartition(".")[0] + ".", "TOKEN_INVALID"),
    "no exp": (lambda: signed({"sub": "alice"}), "TOKEN_INVALID"),
    "no sub": (lambda: signed(hour()), "TOKEN_INVALID"),
    "sub of bad letters": (lambda: signed({"sub": "al ice", **hour()}), "TOKEN_INVALID"),
    "sub with @ in front": (lambda: signed({"sub": "@room", **hour()}), "TOKEN_INVALID"),
    "sub too long": (lambda: signed({"sub": "a" * 65, **hour()}), "TOKEN_INVALID"),
    "sub with a newline": (lambda: signed({"sub": "alice\n", **hour()}), "TOKEN_INVALID"),
    "sub with a separator": (lambda: signed({"sub": "alice/bob", **hour()}), "TOKEN_INVALID"),
}
"""What stands in `auth.token`, and the code it is refused with."""


@pytest.mark.parametrize(("make", "code"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_bad_token_is_refused(server: Node, make: Callable[[], Any], code: str) -> None:
    """CONNECT_ERROR has a message and `data: { code, retryable }`, and no event is served afterwards."""
    async with raw_socket(server) as raw:
        await raw.send("40" + json.dumps({"token": make()}))
        await raw.until(lambda: len(raw.packets) == 2)
        assert raw.packets[1][:2] == "44"
        refusal = json.loads(raw.packets[1][2:])
        assert set(refusal) == {"message", "data"}
        assert refusal["data"] == {"code": code, "retryable": False}
        assert refusal["message"]
        await raw.send('421["room:list"]')
        await raw.closed(seconds=3)
        assert len(raw.packets) == 2


@pytest.mark.parametrize("connect_packet", ["40", "40{}", '40{"Token":"x"}', "40/,", '40{"token":null}'])
async def test_an_absent_token_is_asked_for(server: Node, connect_packet: str) -> None:
    """CONNECT without a payload or without a token is AUTH_REQUIRED."""
    async with raw_socket(server) as raw:
        await raw.send(connect_packet)
        await raw.until(lambda: len(raw.packets) == 2)
        assert json.loads(raw.packets[1][2:])["data"] == {"code": "AUTH_REQUIRED", "retryable": False}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("null", "AUTH_REQUIRED"),
        ("a number", "TOKEN_INVALID"),
        ("malformed", "TOKEN_INVALID"),
        ("expired", "TOKEN_EXPIRED"),
    ],
)
async def test_stock_clients_are_told_why(server: Node, client_kind: str, name: str, code: str) -> None:
    """Both stock clients get the refusal as a connect_error with its data, over either transport."""
    for transport in ("websocket", "polling"):
        client = CLIENTS[client_kind](server.url, REFUSALS[name][0](), "nobody", transports=(transport,))
        with pytest.raises(Refused) as refusal:
            await client.connect()
        assert refusal.value.data == {"code": code, "retryable": False}
        assert refusal.value.message
        await client.close()


async def test_a_token_in_the_query_is_ignored(server: Node, user_id: UserId) -> None:
    """Query strings end up in logs: a token there does not let anybody in."""
    good = server.token(user_id("alice"))
    async with raw_socket(server, query=f"&token={good}&auth={good}") as raw:
        await raw.send("40")
        await raw.until(lambda: len(raw.packets) == 2)
        assert json.loads(raw.packets[1][2:])["data"]["code"] == "AUTH_REQUIRED"
        await raw.connect(good)
    assert good not in server.log_text()


async def test_a_refused_client_may_try_again(server: Node, user_id: UserId) -> None:
    """After CONNECT_ERROR the same connection may send CONNECT with a better token."""
    async with raw_socket(server) as raw:
        await raw.send('40{"token":"bad"}')
        await raw.until(lambda: len(raw.packets) == 2)
        assert (await raw.connect(server.token(user_id("alice"))))["userId"] == user_id("alice")
        assert (await raw.call("room:list"))["success"] is True


async def test_the_greeting_comes_first(server: Node, user_id: UserId) -> None:
    """`session:ready` follows CONNECT at once, before anything else, with all fields of the contract."""
    async with raw_socket(server) as raw:
        alice = user_id("alice")
        await raw.send("40" + json.dumps({"token": server.token(alice), "deviceId": "d" * 64, "else": {"a": 1}}))
        await raw.until(lambda: len(raw.packets) == 3)
        opened = json.loads(raw.packets[1][2:])
        (ready,) = raw.events("session:ready")
        assert set(ready) == READY
        assert (ready["userId"], ready["deviceId"], ready["sessionId"]) == (alice, "d" * 64, opened["sid"])
        assert (ready["protocol"], ready["rooms"], ready["nextCursor"], ready["totalUnread"]) == (1, [], None, 0)


@pytest.mark.parametrize("device_id", [17, None, "", {"$ne": None}, [], "d" * 10_000, "\ud800", "a\x00b"])
async def test_a_strange_device_id_locks_nobody_out(server: Node, user_id: UserId, device_id: Any) -> None:
    """A deviceId that is none is left out; the session opens all the same."""
    async with raw_socket(server) as raw:
        await raw.send("40" + json.dumps({"token": server.token(user_id("alice")), "deviceId": device_id}))
        await raw.until(lambda: raw.events("session:ready"))
        assert raw.events("session:ready")[0]["deviceId"] is None


async def test_other_namespaces_are_refused(server: Node, user_id: UserId) -> None:
    """There is one namespace; asking for another does not end the session in it."""
    async with raw_socket(server, user_id("alice")) as raw:
        await raw.send("40/admin,")
        await raw.until(lambda: raw.packets[-1].startswith("44/admin,"))
        assert (await raw.call("room:list"))["success"] is True


async def test_a_user_has_several_devices(server: Node, connect: Connect, user_id: UserId, client_kind: str) -> None:
    """Each device has its own session; one that goes takes none with it."""
    alice, bob = user_id("alice"), user_id("bob")
    devices = await asyncio.gather(
        *(
            connect(server, alice, kind=client_kind, transports=transports, auth={"deviceId": f"device-{number}"})
            for number, transports in enumerate((("websocket",), ("polling",), ("polling", "websocket")))
        )
    )
    readies = [device.received.of("session:ready")[0] for device in devices]
    assert len({ready["sessionId"] for ready in readies}) == 3
    assert [ready["deviceId"] for ready in readies] == ["device-0", "device-1", "device-2"]
    bobs = await connect(server, bob)
    room_id = (await ok(bobs, "room:create", {"kind": "group", "memberIds": [alice]}))["room"]["roomId"]
    await ok(bobs, "message:send", {"roomId": room_id, "text": "to all"})
    for device in devices:
        assert (await device.received.next("message:received"))["text"] == "to all"
    await devices[0].close()
    await ok(bobs, "message:send", {"roomId": room_id, "text": "to the rest"})
    for device in devices[1:]:
        assert (await device.received.next("message:received"))["text"] == "to the rest"
    assert len(devices[0].received.of("message:received")) == 1


# --- origins -------------------------------------------------------------------------------------------------------


async def opened(node: Node, origin: str | None, transport: str = "polling", host: str | None = None) -> int:
    """The status of an Engine.IO handshake from a page of this origin."""
    headers = ({"Origin": origin} if origin is not None else {}) | ({"Host": host} if host is not None else {})
    if transport == "websocket":
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    url = node.url + ENDPOINT + transport
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        return response.status


FOREIGN = [
    "https://evil.example", "null", "http://localhost.evil.example", "http://evil.example:80", "file://", "localhost",
    "http://[", "javascript:alert(1)", "http://127.0.0.1.evil.example", "",
]  # fmt: skip


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_foreign_pages_are_refused(server: Node, transport: str) -> None:
    """A foreign `Origin`, the opaque one included, gets 403 at the Engine.IO handshake, whatever the transport."""
    assert [await opened(server, origin, transport) for origin in FOREIGN] == [403] * len(FOREIGN)
    success = 200 if transport == "polling" else 101
    local = [
        None,
        server.url,
        "http://localhost:5173",
        "https://localhost",
        "http://127.0.0.1:8080",
        "http://[::1]:3000",
    ]
    assert [await opened(server, origin, transport) for origin in local] == [success] * len(local)


async def test_production_knows_its_origins(start_node: Callable[..., Any]) -> None:
    """In production only the listed origins and the server's own pages come in, no other localhost."""
    node = await start_node(ENVIRONMENT="production", CORS_ORIGINS="https://chat.example, https://two.example:8443")
    for origin, status in (
        ("https://chat.example", 200),
        ("https://two.example:8443", 200),
        ("https://two.example", 403),
        ("http://chat.example", 403),
        ("https://chat.example.evil.example", 403),
        ("http://localhost:5173", 403),
        (node.url, 200),
        (None, 200),
        ("null", 403),
    ):
        assert await opened(node, origin) == status, origin
    assert await opened(node, "https://parley.example", host="parley.example") == 200
    async with aiohttp.ClientSession(headers={"Origin": "https://chat.example"}) as http:
        url = node.url + ENDPOINT + "polling"
        async with http.get(url) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"
            assert response.headers["Vary"] == "Origin"
        async with http.options(url, headers={"Access-Control-Request-Method": "POST"}) as response:
            assert response.status == 204
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
        async with http.options(url, headers={"Origin": "https://evil.example"}) as response:
            assert response.status == 403
            assert "Access-Control-Allow-Origin" not in response.headers
