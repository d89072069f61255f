"""Connection state recovery with stock clients: what comes back after a drop, on whatever node."""

from collections.abc import Callable
from typing import Any

from tests.clients.javascript import JavaScriptClient
from tests.clients.user import Client, eventually, ok
from tests.nodes import Node

Connect = Callable[..., Any]
UserId = Callable[[str], str]


async def make_room(owner: Client, *members: str) -> str:
    """A group of these; returns its id."""
    room = await ok(owner, "room:create", {"kind": "group", "title": "Room", "memberIds": list(members)})
    return str(room["room"]["roomId"])


async def send(client: Client, room_id: str, *texts: str) -> None:
    """Send messages, one after the other."""
    for text in texts:
        await ok(client, "message:send", {"roomId": room_id, "text": text})


def texts(client: Client) -> list[str]:
    """The texts of all messages received so far."""
    return [message["text"] for message in client.received.of("message:received")]


async def test_same_node(server: Node, connect: Connect, user_id: UserId) -> None:
    """A client that comes back to its node is the same session, and has exactly what it missed."""
    alice: JavaScriptClient = await connect(server, user_id("alice"), kind="javascript")
    bob = await connect(server, user_id("bob"), auth={"recovery": False})
    room_id = await make_room(bob, alice.user_id)
    await send(bob, room_id, "one", "two")
    await eventually(lambda: texts(alice) == ["one", "two"])
    before = alice.id
    await alice.drop()
    await send(bob, room_id, "three")
    await ok(bob, "message:edit", {"roomId": room_id, "seq": 1, "text": "uno"})
    await ok(bob, "message:react", {"roomId": room_id, "seq": 2, "emoji": "👍"})
    await send(bob, room_id, "four")
    await ok(bob, "message:read", {"roomId": room_id, "seq": 4})
    ready = await alice.back()
    assert (alice.recovered, alice.id, ready["sessionId"]) == (True, before, before)
    assert texts(alice) == ["one", "two", "three", "four"]
    names = [event for event, _ in alice.received.all]
    missed = names[names.index("message:received") + 2 :]
    assert missed == [
        "message:received", "message:edited", "message:reaction", "message:received", "message:read", "session:ready",
    ]  # fmt: skip
    await send(bob, room_id, "five")
    await eventually(lambda: texts(alice)[-1:] == ["five"])
