"""The engine without Parley: what python-socketio's documentation promises to handlers, with both stock clients."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import socketio
from socketio.exceptions import ConnectionRefusedError as Refused
from socketio.exceptions import TimeoutError as CallTimeout

from tests.conformance.standalone import Standalone, standalone
from tests.conformance.stock import STOCK_CLIENTS, StockClient

Join = Callable[..., Awaitable[tuple[StockClient, str]]]


@pytest.fixture
async def new_client(client_kind: str) -> AsyncIterator[Callable[[], StockClient]]:
    """Make clients that are closed in the end."""
    clients: list[StockClient] = []

    def new_client() -> StockClient:
        clients.append(STOCK_CLIENTS[client_kind]())
        return clients[-1]

    yield new_client
    for client in clients:
        await client.close()


@pytest.fixture
def join(alone: Standalone, new_client: Callable[[], StockClient]) -> Join:
    """Connect a client and return it with its session's id in the first of its namespaces."""

    async def join(*namespaces: str, transports: tuple[str, ...] = ("websocket",)) -> tuple[StockClient, str]:
        client = new_client()
        names = list(namespaces or ("/",))
        await client.open(alone.port, list(transports), names)
        sids = [(await client.happenings.next("connected", name))[0] for name in names]
        return client, sids[0]

    return join


DATA = [1, "zwei", {"drei": [True, None, 4.5]}, "😀"]
BYTES = [b"", bytes(range(256)), {"a": [b"\x00", 1], "b": "x"}]


@pytest.mark.parametrize("transports", [("websocket",), ("polling",), ("polling", "websocket")], ids="+".join)
async def test_events_and_acks(alone: Standalone, join: Join, transports: tuple[str, ...]) -> None:
    """Arguments of any number and kind, bytes among them, pass both ways on each transport and across an upgrade."""
    client, sid = await join(transports=transports)
    assert await client.call("echo", *DATA) == DATA
    if len(transports) == 1:
        assert alone.server.transport(sid) == transports[0]
    assert await client.call("echo") == []
    for number in range(20):
        await alone.server.emit("told", (number, *DATA), to=sid)
    assert [await client.happenings.next("event") for _ in range(20)] == [["told", n, *DATA] for n in range(20)]
    await alone.server.emit("nothing", to=sid)
    await alone.server.emit("one", {"a": 1}, to=sid)
    await alone.server.emit("list", [1, 2], to=sid)
    got = [await client.happenings.next("event") for _ in range(3)]
    assert got == [["nothing"], ["one", {"a": 1}], ["list", [1, 2]]]
    await alone.server.emit("bytes", tuple(BYTES), to=sid)
    assert await client.happenings.next("event") == ["bytes", *BYTES]
    for _ in range(5):
        assert await alone.server.call("ask", (b"x", *DATA), to=sid, timeout=5) == (*reversed(DATA), b"x")


@pytest.mark.parametrize("transports", [("websocket",), ("polling", "websocket")], ids="+".join)
async def test_served_by_aiohttp_alone(new_client: Callable[[], StockClient], transports: tuple[str, ...]) -> None:
    """The application may be served as any other of aiohttp's."""
    async with standalone(plain=True) as alone:

        async def echo(sid: str, *args: Any) -> None:
            await alone.server.emit("back", args, to=sid)

        alone.server.on("echo", echo)
        client = new_client()
        await client.open(alone.port, list(transports), ["/"])
        assert await client.happenings.next("connected")
        for number in range(20):
            await client.emit("echo", number, b"bytes")
        for number in range(20):
            assert await client.happenings.next("event") == ["back", number, b"bytes"]
        await client.close()


@pytest.mark.parametrize("transports", [("websocket",), ("polling",)], ids="+".join)
async def test_bytes_in_acks(join: Join, transports: tuple[str, ...]) -> None:
    """An ack may carry bytes."""
    client, _ = await join(transports=transports)
    assert await asyncio.wait_for(client.call("echo", *BYTES), 5) == BYTES


async def test_callbacks(alone: Standalone, join: Join) -> None:
    """`emit(callback=)` hands over the client's answer, one call for each recipient."""
    (_, sid), (other, _) = await join(), await join()
    answers: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    async def answered(*args: Any) -> None:
        await answers.put(args)

    await alone.server.emit("ask", (1, "b"), to=sid, callback=answered)
    assert await asyncio.wait_for(answers.get(), 5) == ("b", 1)
    await alone.server.emit("ask", "all", callback=answered)
    assert [await asyncio.wait_for(answers.get(), 5) for _ in range(2)] == [("all",)] * 2
    assert await other.happenings.next("event") == ["ask", "all"]
    assert answers.empty()


async def test_call(alone: Standalone, join: Join) -> None:
    """`call` returns the client's answer, or raises when none comes in time or the client has gone."""
    client, sid = await join()
    assert await alone.server.call("ask", to=sid, timeout=5) is None
    assert await alone.server.call("ask", {"a": 1}, to=sid, timeout=5) == {"a": 1}
    assert await alone.server.call("ask", (1, 2), to=sid, timeout=5) == (2, 1)
    with pytest.raises(CallTimeout):
        await alone.server.call("ask", to="nobody", timeout=0.05)
    assert (await client.call("echo", 1)) == [1]


async def test_rooms(alone: Standalone, join: Join) -> None:
    """An event to a room reaches its members, each once, whoever is skipped excepted."""
    (a, a_sid), (b, b_sid), (c, c_sid) = await join(), await join(), await join()
    for sid in (a_sid, b_sid):
        await alone.server.enter_room(sid, "red")
    await alone.server.enter_room(b_sid, "blue")
    assert set(alone.server.rooms(b_sid)) == {b_sid, "red", "blue"}
    await alone.server.emit("n", 1, room="red")
    await alone.server.emit("n", 2, to=["red", "blue"], skip_sid=a_sid)
    await alone.server.emit("n", 3, skip_sid=[b_sid, c_sid])
    await alone.server.leave_room(b_sid, "red")
    await alone.server.emit("n", 4, room="red")
    await alone.server.close_room("red")
    await alone.server.emit("n", 5, room="red")
    await alone.server.emit("n", 6, room="no such room")
    await alone.server.send("end")
    for client, numbers in ((a, [1, 3, 4]), (b, [1, 2]), (c, [])):
        got: list[Any] = []
        while (event := await client.happenings.next("event")) != ["message", "end"]:
            got.append(event[1])
        assert got == numbers


async def test_binary_broadcast_over_both_transports(alone: Standalone, join: Join) -> None:
    """One event with bytes, encoded for polling and for websockets, is the same event to both."""
    (polling, _), (websocket, _) = await join(transports=("polling",)), await join()
    for _ in range(3):
        await alone.server.emit("bytes", tuple(BYTES))
    for client in (websocket, polling):
        assert [await client.happenings.next("event") for _ in range(3)] == [["bytes", *BYTES]] * 3


async def test_namespaces(alone: Standalone, join: Join) -> None:
    """Namespaces over one connection keep their sessions, rooms and events apart; leaving one leaves the others."""

    class Shop(socketio.AsyncNamespace):  # type: ignore[misc]  # the package has no types
        async def on_price(self, sid: str, item: str) -> Any:
            return {"item": item, "in": self.namespace}

        async def on_disconnect(self, sid: str, reason: str) -> None:
            await self.server.emit("left", self.namespace)

    alone.server.register_namespace(Shop("/shop"))
    client, sid = await join("/", "/shop")
    ((shop_sid, _),) = alone.server.manager.get_participants("/shop", None)
    assert shop_sid != sid
    assert await client.call("echo", "here") == ["here"]
    assert await client.call("price", "tea", namespace="/shop") == [{"item": "tea", "in": "/shop"}]
    await alone.server.emit("n", 1)
    await alone.server.emit("n", 2, namespace="/shop", to=shop_sid)
    assert await client.happenings.next("event", "/shop") == ["n", 2]
    assert await client.happenings.next("event", "/") == ["n", 1]
    await client.leave("/shop")
    assert await client.happenings.next("event", "/") == ["left", "/shop"]
    assert await client.call("echo", "still here") == ["still here"]


async def test_refused_namespaces(alone: Standalone, new_client: Callable[[], StockClient]) -> None:
    """A handler refuses with False or an error and its data; an unknown namespace is an invalid one."""

    async def no(sid: str, environ: Any, auth: Any) -> bool:
        return False

    async def why(sid: str, environ: Any, auth: Any) -> None:
        raise Refused("not today", {"code": 7, "auth": auth})

    alone.server.on("connect", no, namespace="/no")
    alone.server.on("connect", why, namespace="/why")
    client = new_client()
    await client.open(alone.port, ["websocket"], ["/no", "/why", "/none", "/"], {"key": "k"})
    assert await client.happenings.next("refused", "/no") == ["Connection rejected by server", None]
    assert await client.happenings.next("refused", "/why") == ["not today", {"code": 7, "auth": {"key": "k"}}]
    assert await client.happenings.next("refused", "/none") == ["Invalid namespace", None]
    assert await client.happenings.next("connected", "/")
    assert await client.call("echo", 1) == [1]


async def test_connect_and_disconnect_handlers(alone: Standalone, join: Join) -> None:
    """`connect` gets the environ and the auth, `disconnect` the reason, each once for each session."""
    told: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        await told.put(("connect", sid, isinstance(environ, dict)))
        await alone.server.emit("welcome", sid, to=sid)

    async def disconnect(sid: str, reason: str) -> None:
        await told.put(("disconnect", sid, reason))

    alone.server.on("connect", connect)
    alone.server.on("disconnect", disconnect)
    client, sid = await join()
    assert await client.happenings.next("event") == ["welcome", sid]
    assert await told.get() == ("connect", sid, True)
    await alone.server.disconnect(sid)
    assert await client.happenings.next("disconnected")
    assert await asyncio.wait_for(told.get(), 5) == ("disconnect", sid, alone.server.reason.SERVER_DISCONNECT)
    client, sid = await join()
    await told.get()
    await client.leave()
    assert await asyncio.wait_for(told.get(), 5) == ("disconnect", sid, alone.server.reason.CLIENT_DISCONNECT)
    assert told.empty()


@pytest.mark.parametrize("client_kind", ["python"])
async def test_session_data(alone: Standalone, join: Join) -> None:
    """A session keeps what its handlers put into it, for as long as it lives, and for itself alone."""
    (_, sid), (_, other) = await join(), await join()
    await alone.server.save_session(sid, {"name": "alice"})
    async with alone.server.session(sid) as session:
        session["visits"] = 1
    assert await alone.server.get_session(sid) == {"name": "alice", "visits": 1}
    assert await alone.server.get_session(other) == {}


async def test_handlers_for_all_events(alone: Standalone, join: Join) -> None:
    """A handler of `*` takes the events that have none of their own; a handler that raises harms nobody else."""

    async def anything(event: str, sid: str, *args: Any) -> Any:
        return "caught", event, *args

    async def broken(sid: str) -> None:
        raise RuntimeError("a handler's own fault")

    alone.server.on("*", anything)
    alone.server.on("broken", broken)
    client, _ = await join()
    assert await client.call("whatever", 1) == ["caught", "whatever", 1]
    await client.emit("broken")
    assert await client.call("echo", 2) == [2]
