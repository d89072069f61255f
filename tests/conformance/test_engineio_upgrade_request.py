"""The request for a websocket: how it may look, what it must have, and how it arrives (RFC 6455, section 4)."""

import pytest

from tests.conformance.connection import Connection
from tests.conformance.websocket import PING, PONG, WebSocket, frame
from tests.conformance.wire import ACCEPT, KEY, UPGRADE, Polling, Wire, target

EVENT = '421["room:list"]'


async def opened(connection: Connection) -> WebSocket:
    """The websocket whose upgrade request has been sent, past OPEN."""
    response = await connection.response()
    assert (response.status, response.headers.get("sec-websocket-accept")) == (101, ACCEPT), response
    websocket = WebSocket(connection)
    await websocket.opened()
    return websocket


async def invalid_namespace(websocket: WebSocket) -> bool:
    """Whether the server speaks Socket.IO on it; no token is needed for that."""
    await websocket.send("40/nowhere")
    return await websocket.text() == '44/nowhere,{"message":"Invalid namespace"}'


def upgrade_request(connection: Connection, **changes: str | None) -> bytes:
    """The request for a websocket, some headers changed or, with None, left out; `_` in a name stands for `-`."""
    headers: dict[str, str] = dict(UPGRADE)
    for name, value in changes.items():
        headers.pop(name.replace("_", "-"), None)
        if value is not None:
            headers[name.replace("_", "-")] = value
    return connection.request_bytes("GET", target("websocket"), headers)


# --- the upgrade request -------------------------------------------------------------------------------------------


TOKENS = {"Upgrade": "websocket", "Connection": "Upgrade"}
PLAIN = [f"{name}: {value}" for name, value in TOKENS.items()]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([f"{name.lower()}: {value.lower()}" for name, value in TOKENS.items()], id="lower case"),
        pytest.param([f"{name.upper()}: {value.upper()}" for name, value in TOKENS.items()], id="upper case"),
        pytest.param([f"{name}:{value}" for name, value in TOKENS.items()], id="no space"),
        pytest.param([f"{name}: \t {value} \t " for name, value in TOKENS.items()], id="more space"),
        pytest.param(["Upgrade: WebSocket", "Connection: keep-alive, Upgrade"], id="last of a list"),
        pytest.param(["Upgrade: websocket", "Connection: Upgrade,keep-alive"], id="first of a list"),
        pytest.param(["Upgrade: websocket", "Connection: ,x , upgrade,"], id="within a list"),
        pytest.param([*PLAIN, "Content-Length: 0"], id="no body"),
        pytest.param([*PLAIN, "Pragma: no-cache", "Cookie: a=b; c=d", "X-Name: ö", "X-Empty:"], id="other headers"),
        pytest.param([*PLAIN, "Sec-WebSocket-Protocol: chat, superchat"], id="subprotocols"),
    ],
)
async def test_headers_are_read_as_http_says(wire: Wire, lines: list[str]) -> None:
    """Names and tokens in any case, optional whitespace, lists, and headers that are none of our business."""
    connection = await wire.connection()
    name = "sec-websocket-" if lines[0].startswith("upgrade") else "Sec-WebSocket-"
    head = [f"GET {target('websocket')} HTTP/1.1", f"Host: 127.0.0.1:{wire.port}", f"{name}Version: 13"]
    connection.write("\r\n".join([*head, *lines, f"{name}Key:  {KEY} ", "", ""]).encode())
    assert await invalid_namespace(await opened(connection))


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover, permessage-deflate",
        "x-webkit-deflate-frame",
        "unknown; x=1",
    ],
)
async def test_no_extension_is_agreed_on(wire: Wire, offer: str) -> None:
    """Whatever is offered, nothing is compressed."""
    connection = await wire.connection()
    connection.write(upgrade_request(connection, Sec_WebSocket_Extensions=offer))
    response = await connection.response()
    assert response.status == 101
    assert "sec-websocket-extensions" not in response.headers
    assert (await WebSocket(connection).frame()).rsv == 0


@pytest.mark.parametrize("size", [100, 2_000, 6_000])
async def test_long_requests(wire: Wire, size: int) -> None:
    """Cookies, tokens and queries of several kilobytes are nothing unusual."""
    connection = await wire.connection()
    headers = {**UPGRADE, "Cookie": "c" * size, **{f"X-{number}": "x" * 60 for number in range(50)}}
    connection.write(connection.request_bytes("GET", f"{target('websocket')}&token={'t' * size}", headers))
    assert await invalid_namespace(await opened(connection))


@pytest.mark.parametrize(
    "changes",
    [
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "c2hvcnQ="},
        {"Sec_WebSocket_Key": "!" * 24},
        {"Sec_WebSocket_Key": KEY + "AAAA"},
        {"Upgrade": None},
        {"Upgrade": "h2c"},
        {"Connection": None},
        {"Connection": "keep-alive"},
    ],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()),
)
async def test_what_is_no_websocket_handshake(wire: Wire, changes: dict[str, str | None]) -> None:
    """A request that lacks a part of RFC 6455's section 4.1, or has a wrong one, is 400."""
    connection = await wire.connection()
    connection.write(upgrade_request(connection, **changes))
    assert (await connection.response()).status == 400
    assert (await wire.request("GET", target("polling"))).status == 200


@pytest.mark.parametrize("version", [None, "", "8", "12", "14", "x"])
async def test_other_versions(wire: Wire, version: str | None) -> None:
    """Only version 13 is spoken; whoever asks for another one is told so (4.4)."""
    connection = await wire.connection()
    connection.write(upgrade_request(connection, Sec_WebSocket_Version=version))
    response = await connection.response()
    assert response.status in (400, 426)
    if response.status == 426:
        assert response.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_the_target_in_absolute_form(wire: Wire, transport: str) -> None:
    """A request may name the server in its target, as it does on the way to a proxy (RFC 9112, section 3.2.2)."""
    where = f"http://127.0.0.1:{wire.port}{target(transport)}"
    response = await wire.request("GET", where, UPGRADE if transport == "websocket" else None)
    assert response.status == (101 if transport == "websocket" else 200)


@pytest.mark.parametrize(("origin", "status"), [("http://localhost:1", 101), ("https://evil.example", 403)])
async def test_origins(wire: Wire, origin: str, status: int) -> None:
    """A page from elsewhere gets no websocket."""
    response = await wire.request("GET", target("websocket"), {**UPGRADE, "Origin": origin})
    assert response.status == status
    if status == 403:
        assert response.json == {"code": 4, "message": "Forbidden"}


async def test_http_1_0_has_no_upgrade(wire: Wire) -> None:
    """A websocket needs HTTP/1.1; a poll does not."""
    connection = await wire.connection()
    connection.write(upgrade_request(connection).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (await connection.response()).status in (400, 426, 505)
    connection = await wire.connection()
    connection.write(connection.request_bytes("GET", target("polling")).replace(b"HTTP/1.1", b"HTTP/1.0"))
    response = await connection.response()
    assert (response.status, response.text[:1]) == (200, "0")
    assert await connection.ended() == b""


# --- how it arrives ------------------------------------------------------------------------------------------------


async def test_a_request_in_single_bytes(wire: Wire) -> None:
    """The request may come byte by byte, and so may the frames behind it."""
    connection = await wire.connection()
    request = upgrade_request(connection)
    await wire.write_in_pieces(connection, *(bytes([byte]) for byte in request))
    assert await invalid_namespace(await opened(connection))


async def test_a_request_cut_anywhere(wire: Wire) -> None:
    """Wherever the request and the frames behind it are cut in two segments, nothing is lost."""
    frames = frame(b"p", PING) + frame("40/nowhere")
    length = len(upgrade_request(await wire.connection()) + frames)
    for cut in [*range(1, length - 30, 9), *range(length - 30, length)]:
        connection = await wire.connection()
        stream = upgrade_request(connection) + frames
        await wire.write_in_pieces(connection, stream[:cut], stream[cut:])
        websocket = await opened(connection)
        got = [(await websocket.frame()).payload for _ in range(2)]
        assert sorted(got) == [b'44/nowhere,{"message":"Invalid namespace"}', b"p"], cut
        await connection.close()


async def test_frames_right_behind_the_request(wire: Wire, token: str) -> None:
    """A client that does not wait for the 101 has sent all of its first frames with the request."""
    connection = await wire.connection()
    frames = frame(f'40{{"token":"{token}"}}') + frame(b"p", PING)
    connection.write(upgrade_request(connection) + frames)
    websocket = await opened(connection)
    got = [await websocket.frame() for _ in range(3)]
    assert [answer.payload for answer in got if answer.opcode == PONG] == [b"p"]
    assert [answer.payload[:2] for answer in got if answer.opcode != PONG] == [b"40", b"42"]
    assert await websocket.is_served()


async def test_a_large_frame_right_behind_the_request(wire: Wire, polling: Polling) -> None:
    """More than the server reads at a time may follow the request."""
    connection = await wire.connection()
    request = connection.request_bytes("GET", target("websocket", polling.sid), UPGRADE)
    event = EVENT[:-1] + " " * 900_000 + "]"
    connection.write(request + frame("2probe") + frame("5") + frame(event) + frame('422["room:list"]'))
    assert (await connection.response()).status == 101
    websocket = WebSocket(connection)
    assert await websocket.text() == "3probe"
    assert [(await websocket.text())[:4] for _ in range(2)] == ["431[", "432["]


async def test_a_broken_frame_right_behind_the_request(wire: Wire) -> None:
    """It is refused as any other, after the 101."""
    connection = await wire.connection()
    connection.write(upgrade_request(connection) + frame("40", rsv=4))
    assert await (await opened(connection)).close_code(seconds=3) == 1002
