"""Engine.IO protocol 4, HTTP long-polling: which faults of a client end its session at once, and which do not."""

import asyncio

import pytest

from tests.conformance.connection import Connection, Response
from tests.conformance.wire import SEPARATOR, Polling, Wire, target

EVENT = '421["room:list"]'
BINARY_EVENT = '451-1["no:such",{"_placeholder":true,"num":0}]'
GOODBYE = ['42["session:closed",{"code":"PROTOCOL_ERROR","reconnect":false}]', "41", "1"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param("abc", id="unknown type"),
        pytest.param("7", id="type 7"),
        pytest.param("9", id="type 9"),
        pytest.param("-1", id="negative"),
        pytest.param("0{}", id="open"),
        pytest.param("2", id="ping"),
        pytest.param("2probe", id="probe"),
        pytest.param("3probe", id="probe answered"),
        pytest.param("5", id="upgrade"),
        pytest.param("6", id="noop"),
        pytest.param("1x", id="close with data"),
        pytest.param(EVENT + SEPARATOR, id="empty at the end"),
        pytest.param(SEPARATOR + EVENT, id="empty at the start"),
        pytest.param("3" + SEPARATOR + SEPARATOR + "3", id="empty between"),
        pytest.param("b", id="attachment unasked"),
        pytest.param(BINARY_EVENT + SEPARATOR + "b!!!!", id="no base64"),
        pytest.param(BINARY_EVENT + SEPARATOR + "bAQI", id="no padding"),
        pytest.param(BINARY_EVENT + SEPARATOR + "bAQ=D", id="padding within"),
        pytest.param(BINARY_EVENT + SEPARATOR + "bAQ\nID", id="newline in base64"),
        pytest.param(BINARY_EVENT + SEPARATOR + "b_-_-", id="base64 for URLs"),
        pytest.param("6:4hello", id="protocol 3"),
        pytest.param("d=4hello", id="jsonp"),
    ],
)
async def test_malformed_payloads(polling: Polling, body: str) -> None:
    """A POST that is no payload is 400; a session hears why by its next poll and is over at once."""
    response = await polling.post(body)
    assert (response.status, response.json) == (400, {"code": 3, "message": "Bad request"})
    packets = await polling.get()
    while packets[-1] != "1":
        packets += await polling.get()
    assert packets[-3:] == GOODBYE


@pytest.mark.parametrize("body", [b"\xff", b"4\xc3", b'421["room:list","\xed\xa0\x80"]', '421["x"]'.encode("utf-16")])
async def test_payloads_that_are_no_text(wire: Wire, polling: Polling, body: bytes) -> None:
    """A payload is UTF-8."""
    response = await wire.request("POST", polling.target, body=body)
    assert response.status == 400, response
    assert response.json["code"] == 3
    assert await polling.get() == GOODBYE


async def test_a_malformed_payload_wakes_the_poll(wire: Wire, polling: Polling) -> None:
    """A waiting GET comes back with the goodbye at once, not with the ping timeout."""
    waiting = await wire.waiting_poll(polling)
    assert (await polling.post("abc")).status == 400
    response = await asyncio.wait_for(waiting.response(), 3)
    assert response.text.split(SEPARATOR) == GOODBYE


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_goodbye_is_said_once(wire: Wire, polling: Polling, method: str) -> None:
    """A session whose goodbye has been fetched is unknown, to polls and to posts."""
    assert (await polling.post("abc")).status == 400
    assert await polling.get() == GOODBYE
    response = await wire.request(method, polling.target, body=b"3" if method == "POST" else None)
    assert response.status == 400, response
    assert response.json["code"] == 1


async def test_a_malformed_payload_before_connect(wire: Wire) -> None:
    """Without a session there is nothing to say: the id is unknown from now on."""
    polling = await wire.polling()
    assert (await polling.post("abc")).status == 400
    response = await polling.poll()
    assert response.status == 400, response
    assert response.json["code"] == 1


async def test_two_polls_at_once(wire: Wire, polling: Polling) -> None:
    """A second GET while one waits ends the session at once: it is 400, the first comes back with CLOSE."""
    waiting = await wire.waiting_poll(polling)
    second = await polling.poll()
    assert (second.status, second.json["code"]) == (400, 3)
    first = await asyncio.wait_for(waiting.response(), 3)
    assert (first.status, first.text.split(SEPARATOR)[-1]) == (200, "1")
    third = await polling.poll()
    assert third.status == 400, third
    assert third.json["code"] == 1


async def test_two_posts_at_once(wire: Wire, polling: Polling) -> None:
    """A second POST while the body of one is under way ends the session at once: neither can be put in order."""
    first = await wire.begin("POST", polling.target, {"Content-Length": str(len(EVENT))}, EVENT[:5].encode())
    second = await polling.post("3")
    assert second.status == 400, second
    assert second.json["code"] == 3
    first.write(EVENT[5:].encode())
    answer = await _answer(first)
    assert answer is None or answer.status == 400
    assert "431[" not in (await polling.poll()).text
    assert await polling.is_gone()


async def _answer(connection: Connection) -> Response | None:
    """The response, or None when the connection ends without one."""
    try:
        return await connection.response()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def test_an_abandoned_poll(wire: Wire, polling: Polling) -> None:
    """A client that gives up its GET has given up the session: the next GET is refused."""
    waiting = await wire.waiting_poll(polling)
    waiting.abort()
    await wire.delivered()
    assert (await asyncio.wait_for(polling.poll(), 3)).status == 400
    await wire.forgets(polling.sid)


async def test_nothing_is_lost_with_an_abandoned_poll(wire: Wire, polling: Polling) -> None:
    """Packets that find their GET abandoned end the session, or wait for the next GET; it does not go on without."""
    waiting = await wire.waiting_poll(polling)
    waiting.abort()
    await wire.delivered()
    await polling.post('421["no:such"]')
    response = await asyncio.wait_for(polling.poll(), 3)
    assert response.status == 400 or response.text.startswith("431["), response


async def test_an_abandoned_post(wire: Wire, polling: Polling) -> None:
    """A POST whose connection ends before its body does is not served, not even in part."""
    body = f"{EVENT}{SEPARATOR}{EVENT}".encode()
    connection = await wire.begin("POST", polling.target, {"Content-Length": str(len(body))}, body[:-3])
    connection.abort()
    await wire.delivered()
    response = await polling.post('422["room:list"]')
    if response.status == 200:
        packets = await polling.get()
        assert [packet[:4] for packet in packets] in (["432["], ["1"])


async def test_sessions_do_not_mix(wire: Wire) -> None:
    """What is posted to one session is answered to that one alone."""
    one, other = await wire.polling(), await wire.polling()
    await one.send('40/nowhere,{"a":1}')
    await other.send("40/elsewhere")
    assert await one.get() == ['44/nowhere,{"message":"Invalid namespace"}']
    assert await other.get() == ['44/elsewhere,{"message":"Invalid namespace"}']
    assert (await wire.request("GET", target("polling", one.sid + "x"))).status == 400
