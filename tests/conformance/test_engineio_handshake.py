"""Engine.IO protocol 4, handshake: what OPEN says on both transports, and what is refused with which words."""

import pytest

from tests.conformance.websocket import WebSocket
from tests.conformance.wire import ACCEPT, PATH, UPGRADE, Polling, Wire, target

TRANSPORT_UNKNOWN = (0, "Transport unknown")
SESSION_UNKNOWN = (1, "Session ID unknown")
BAD_METHOD = (2, "Bad handshake method")
BAD_REQUEST = (3, "Bad request")
BAD_VERSION = (5, "Unsupported protocol version")


async def test_open_by_polling(wire: Wire) -> None:
    """The first GET is answered by one OPEN packet as plain text, with these fields and no others."""
    response = await wire.request("GET", target("polling"))
    assert response.status == 200
    assert response.headers["content-type"].lower() == "text/plain; charset=utf-8"
    assert response.text.startswith("0{")
    assert "\x1e" not in response.text
    told = (await wire.polling()).told
    assert list(told) == ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]
    assert told["upgrades"] == ["websocket"]
    assert [told[name] for name in ("pingInterval", "pingTimeout", "maxPayload")] == [25_000, 20_000, 1_000_000]


async def test_open_by_websocket(wire: Wire) -> None:
    """A websocket begins with the OPEN packet; there is nothing left to upgrade to."""
    websocket = await wire.upgrade()
    told = await websocket.opened()
    assert list(told) == ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]
    assert told["upgrades"] == []
    assert [told[name] for name in ("pingInterval", "pingTimeout", "maxPayload")] == [25_000, 20_000, 1_000_000]


async def test_session_ids_are_unguessable(wire: Wire) -> None:
    """Every session has an id of its own, of at least 120 bits, that needs no escaping in a query."""
    ids = [(await wire.polling()).sid for _ in range(5)]
    ids += [str((await (await wire.upgrade()).opened())["sid"]) for _ in range(5)]
    assert len(set(ids)) == 10
    assert all(len(sid) >= 20 and sid.replace("-", "").replace("_", "").isalnum() for sid in ids)


async def test_switching_protocols(wire: Wire) -> None:
    """The websocket handshake is RFC 6455's: 101, the key answered, no extension, no subprotocol."""
    connection = await wire.connection()
    response = await connection.request("GET", target("websocket"), UPGRADE)
    assert response.status == 101
    assert response.headers["upgrade"].lower() == "websocket"
    assert response.headers["connection"].lower() == "upgrade"
    assert response.headers["sec-websocket-accept"] == ACCEPT
    assert not {"sec-websocket-extensions", "sec-websocket-protocol", "content-length"} & set(response.headers)


@pytest.mark.parametrize(
    "query",
    [
        "EIO=4&transport=polling&t=abc123",
        "transport=polling&EIO=4",
        "EIO=4&transport=polling&b64=1",
        "EIO=4&transport=polling&token=%F0%9F%98%80&x=%ff&y",
        "&&EIO=4&transport=polling&",
        "%45IO=%34&transport=p%6flling",
    ],
)
async def test_what_else_the_query_says_is_ignored(wire: Wire, query: str) -> None:
    """Clients add a cache buster and whatever their application likes, and may escape what they say."""
    response = await wire.request("GET", f"{PATH}?{query}")
    assert (response.status, response.text[:1]) == (200, "0")
    query = query.replace("polling", "websocket").replace("p%6flling", "webs%6fcket")
    assert (await wire.request("GET", f"{PATH}?{query}", UPGRADE)).status == 101


@pytest.mark.parametrize(
    ("method", "query", "why"),
    [
        ("GET", "", TRANSPORT_UNKNOWN),
        ("GET", "?EIO=4", TRANSPORT_UNKNOWN),
        ("GET", "?EIO=4&transport=", TRANSPORT_UNKNOWN),
        ("GET", "?EIO=4&transport=abc", TRANSPORT_UNKNOWN),
        ("GET", "?EIO=4&transport=Polling", TRANSPORT_UNKNOWN),
        ("GET", "?EIO=4&transport=__proto__", TRANSPORT_UNKNOWN),
        ("GET", "?EIO=4&transport=jsonp", TRANSPORT_UNKNOWN),
        ("GET", "?transport=polling", BAD_VERSION),
        ("GET", "?EIO=abc&transport=polling", BAD_VERSION),
        ("GET", "?EIO=&transport=polling", BAD_VERSION),
        ("GET", "?EIO=3&transport=polling", BAD_VERSION),
        ("GET", "?EIO=5&transport=polling", BAD_VERSION),
        ("GET", "?EIO=04&transport=polling", BAD_VERSION),
        ("POST", "?EIO=4&transport=polling", BAD_METHOD),
        ("PUT", "?EIO=4&transport=polling", BAD_METHOD),
        ("DELETE", "?EIO=4&transport=polling", BAD_METHOD),
        ("PATCH", "?EIO=4&transport=polling", BAD_METHOD),
        ("POST", "?EIO=4&transport=websocket", BAD_METHOD),
        ("GET", "?EIO=4&transport=websocket", BAD_REQUEST),
        ("GET", "?EIO=4&transport=polling&sid=unknown", SESSION_UNKNOWN),
        ("POST", "?EIO=4&transport=polling&sid=unknown", SESSION_UNKNOWN),
        ("GET", "?EIO=4&transport=polling&sid=", SESSION_UNKNOWN),
        ("GET", "?EIO=4&transport=websocket&sid=unknown", SESSION_UNKNOWN),
    ],
)
async def test_refusals(wire: Wire, method: str, query: str, why: tuple[int, str]) -> None:
    """A request outside the protocol is 400 with the reference server's JSON, and the connection can be used again."""
    connection = await wire.connection()
    body = b"40" if method != "GET" else None
    response = await connection.request(method, PATH + query, body=body)
    assert (response.status, response.media_type) == (400, "application/json")
    assert response.json == dict(zip(("code", "message"), why, strict=True))
    assert (await connection.request("GET", target("polling"))).status == 200


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("?EIO=4", TRANSPORT_UNKNOWN),
        ("?EIO=4&transport=abc", TRANSPORT_UNKNOWN),
        ("?transport=websocket", BAD_VERSION),
        ("?EIO=abc&transport=websocket", BAD_VERSION),
        ("?EIO=3&transport=websocket", BAD_VERSION),
        ("?EIO=4&transport=websocket&sid=unknown", SESSION_UNKNOWN),
    ],
)
async def test_refused_websockets(wire: Wire, query: str, why: tuple[int, str]) -> None:
    """A websocket outside the protocol is refused in HTTP, with the same words."""
    response = await wire.request("GET", PATH + query, UPGRADE)
    assert (response.status, response.media_type) == (400, "application/json")
    assert response.json == dict(zip(("code", "message"), why, strict=True))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_a_session_takes_get_and_post_only(wire: Wire, polling: Polling, method: str) -> None:
    """Any other method on a session is refused and leaves it as it is."""
    response = await wire.request(method, polling.target, body=None if method == "HEAD" else b"41")
    assert response.status == 400
    assert await polling.is_served()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_polling_with_a_websockets_sid(wire: Wire, token: str, method: str) -> None:
    """An HTTP request with a websocket's sid is refused, and the websocket goes on unharmed."""
    websocket = await wire.upgrade()
    sid = (await websocket.opened())["sid"]
    await websocket.connect(token)
    response = await wire.request(method, target("polling", sid), body=b"41" if method == "POST" else None)
    assert (response.status, response.json) == (400, {"code": 3, "message": "Bad request"})
    assert await websocket.is_served()


async def test_a_websocket_with_a_websockets_sid(wire: Wire, token: str) -> None:
    """A second websocket for a session that has one gets nowhere, and the first goes on unharmed."""
    websocket = await wire.upgrade()
    sid = (await websocket.opened())["sid"]
    await websocket.connect(token)
    connection = await wire.connection()
    response = await connection.request("GET", target("websocket", sid), UPGRADE)
    if response.status == 101:
        assert (await WebSocket(connection).farewell())[0] == []
    else:
        assert response.status == 400
    assert await websocket.is_served()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/socket.io", 404),
        ("/socket.io/x", 404),
        ("/socket.io//", 404),
        ("/Socket.IO/", 404),
        ("/engine.io/", 404),
        ("/nowhere", 404),
        ("/health/liveness", 200),
    ],
)
async def test_other_paths_are_no_endpoint(wire: Wire, path: str, status: int) -> None:
    """The path is /socket.io/ with its slash; nothing else opens sessions or takes websockets."""
    connection = await wire.connection()
    response = await connection.request("GET", f"{path}?EIO=4&transport=websocket", UPGRADE)
    assert (response.status, response.text[:1] == "0") == (status, False)
    assert (await wire.request("GET", f"{path}?EIO=4&transport=polling")).status == status


async def test_preflight(wire: Wire) -> None:
    """A browser on another origin may ask first."""
    headers = {
        "Origin": "http://localhost:5173",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    response = await wire.request("OPTIONS", target("polling"), headers)
    assert response.status in (200, 204)
    assert response.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == "content-type"
    answer = await wire.request("GET", target("polling"), {"Origin": "http://localhost:5173"})
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
