"""The HTTP below: what else happens on the TCP connections of polls and websockets."""

import pytest

from tests.conformance.websocket import WebSocket, frame
from tests.conformance.wire import PATH, UPGRADE, Polling, Wire, target

EVENT = '421["room:list"]'


async def test_polls_and_posts_on_one_connection(wire: Wire, token: str) -> None:
    """A browser sends its requests over connections that it keeps."""
    connection = await wire.connection()
    polling = Polling(wire, (await wire.polling()).told)
    assert (await connection.request("POST", polling.target, body=b'40{"token":"%b"}' % token.encode())).text == "ok"
    while "session:ready" not in (await connection.request("GET", polling.target)).text:
        pass
    for number in range(1, 6):
        event = f'42{number}["room:list"]'.encode()
        assert (await connection.request("POST", polling.target, body=event)).text == "ok"
        assert (await connection.request("GET", polling.target)).text.startswith(f"43{number}[")


async def test_pipelined_requests(wire: Wire, polling: Polling) -> None:
    """Requests sent without waiting are answered in their order."""
    connection = await wire.connection()
    posts = [connection.request_bytes("POST", polling.target, body=f'42{n}["room:list"]'.encode()) for n in (1, 2)]
    connection.write(b"".join(posts) + connection.request_bytes("GET", "/no-such-path"))
    assert [(await connection.response()).status for _ in range(3)] == [200, 200, 404]
    packets = await polling.until("432[")
    assert [packet[:4] for packet in packets] == ["431[", "432["]


@pytest.mark.parametrize("before", ["poll", "post", "chunked post", "get with a body", "404", "400", "all at once"])
async def test_an_upgrade_on_a_used_connection(wire: Wire, polling: Polling, before: str) -> None:
    """A connection that has served HTTP may become a websocket, of a new session or of the one that polled on it."""
    connection = await wire.connection()
    post = connection.request_bytes("POST", polling.target, body=EVENT.encode())
    requests = {
        "poll": [connection.request_bytes("GET", target("polling"))],
        "post": [post],
        "chunked post": [
            connection.request_bytes("POST", polling.target, {"Transfer-Encoding": "chunked"}) + b"1\r\n3\r\n0\r\n\r\n"
        ],
        "get with a body": [connection.request_bytes("GET", target("polling"), body=b"GET / HTTP/1.1\r\n\r\n")],
        "404": [connection.request_bytes("GET", "/nowhere")],
        "400": [connection.request_bytes("GET", PATH)],
        "all at once": [post, connection.request_bytes("GET", target("polling")), post],
    }[before]
    upgrade = connection.request_bytes("GET", target("websocket", polling.sid), UPGRADE)
    if before == "all at once":
        connection.write(b"".join(requests) + upgrade + frame("2probe"))
        for _ in requests:
            await connection.response()
    else:
        for request in requests:
            connection.write(request)
            await connection.response()
        connection.write(upgrade + frame("2probe"))
    assert (await connection.response()).status == 101
    websocket = WebSocket(connection)
    assert await websocket.text() == "3probe"
    await websocket.send("5")
    assert await websocket.is_served()


async def test_a_poll_and_then_a_websocket_of_its_own(wire: Wire, token: str) -> None:
    """The connection that opened a session by polling is upgraded to a new session."""
    connection = await wire.connection()
    first = await connection.request("GET", target("polling"))
    connection.write(connection.request_bytes("GET", target("websocket"), UPGRADE))
    response = await connection.response()
    assert response.status == 101
    websocket = WebSocket(connection)
    assert (await websocket.opened())["sid"] not in first.text
    await websocket.connect(token)
    assert await websocket.is_served()


async def test_a_refused_upgrade_leaves_the_connection_usable(wire: Wire) -> None:
    """After 400 the client may ask again on the same connection, unless the server has said that it closes."""
    connection = await wire.connection()
    response = await connection.request("GET", target("websocket"), {**UPGRADE, "Sec-WebSocket-Key": "short"})
    assert response.status == 400
    if response.headers.get("connection", "").lower() != "close":
        connection.write(connection.request_bytes("GET", target("websocket"), UPGRADE))
        assert (await connection.response()).status == 101


async def test_expect_continue(wire: Wire, polling: Polling) -> None:
    """Some HTTP clients ask before they send a body."""
    connection = await wire.connection()
    headers = {"Expect": "100-continue", "Content-Length": str(len(EVENT))}
    connection.write(connection.request_bytes("POST", polling.target, headers))
    assert (await connection.response()).status == 100
    connection.write(EVENT.encode())
    assert (await connection.response()).text == "ok"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nUpgrade : websocket\r\n\r\n",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /socket.io/ HTTP/1.1\r\nHost: x\r\nCookie: " + b"c" * 1_000_000 + b"\r\n\r\n",
        b"GET /socket.io/ HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    ],
    ids=["short", "TLS", "no colon", "space", "version", "length", "two lengths", "long line", "long header", "many"],
)
async def test_what_is_no_http(wire: Wire, request_bytes: bytes) -> None:
    """Garbage, smuggling and endless headers are refused with a 4xx or 505, the connection ends, the server goes on."""
    connection = await wire.connection()
    connection.write(request_bytes)
    rest = await connection.ended()
    assert not rest or rest.split(b" ")[1][:1] == b"4" or rest.split(b" ")[1] == b"505"
    await wire.websocket()
