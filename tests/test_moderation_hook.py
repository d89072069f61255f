"""The operator's pre-send hook over the wire: a real HTTP service, and a function in the node's process."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from server.moderation import load_hook
from server.settings import SettingsError
from tests.clients.user import Client, ok, refused
from tests.hook import HookServer
from tests.nodes import Node

Connect = Callable[..., Any]
UserId = Callable[[str], str]
FAILURES = ["slow", "redirect", "status", "broken", "huge", "odd", "nothing", "empty"]


@pytest.fixture
async def hook() -> AsyncIterator[HookServer]:
    """A moderation service."""
    server = HookServer()
    await server.start()
    yield server
    await server.stop()


async def open_room(connect: Connect, node: Node, user_id: UserId) -> tuple[Client, Client, dict[str, str]]:
    """Two people in a group."""
    alice, bob = await asyncio.gather(connect(node, user_id("alice")), connect(node, user_id("bob")))
    created = await ok(alice, "room:create", {"kind": "group", "memberIds": [bob.user_id]})
    return alice, bob, {"roomId": created["room"]["roomId"]}


async def test_a_webhook_allows_rewrites_and_rejects(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId, hook: HookServer
) -> None:
    """It is shown each message; its verdict is what is stored, acknowledged and delivered; retries stay the same."""
    node = await start_node(MODERATION_WEBHOOK=hook.url)
    alice, bob, here = await open_room(connect, node, user_id)
    message = {**here, "text": "hello", "clientId": "m1", "metadata": {"a": 1}, "mentions": [bob.user_id]}
    await ok(alice, "message:send", message)
    assert hook.asked == [
        {**message, "senderId": alice.user_id, "seq": None, "replyTo": None, "attachments": []},
    ]
    rewritten = {**here, "text": "bad word", "clientId": "m2"}
    first, again = [await ok(alice, "message:send", rewritten) for _ in range(2)]
    assert (first["message"]["text"], first["duplicate"]) == ("*** ****", False)
    assert again == {**first, "duplicate": True}
    for text in ("*** ****", "other"):
        assert (await refused(alice, "message:send", {**rewritten, "text": text}))["code"] == "CONFLICT"
    error = await refused(alice, "message:send", {**here, "text": "spam", "clientId": "m3"})
    assert error == {"code": "FORBIDDEN", "message": "no advertising, please", "retryable": False}
    error = await refused(alice, "message:send", {**here, "text": "silent spam"})
    assert (error["code"], bool(error["message"])) == ("FORBIDDEN", True)
    await ok(alice, "message:send", {**here, "text": "bye", "clientId": "m3"})
    assert [m["text"] for m in await bob.received.until("message:received", 3)] == ["hello", "*** ****", "bye"]
    assert [m["text"] for m in (await ok(bob, "message:history", here))["messages"]] == ["hello", "*** ****", "bye"]
    assert "spam" not in node.log_text()


async def test_what_is_stored_is_never_refused_afterwards(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId, hook: HookServer
) -> None:
    """A message that was acknowledged before there was a hook is that message still, sent again past a rejection."""
    node = await start_node()
    alice, _, here = await open_room(connect, node, user_id)
    said = await ok(alice, "message:send", {**here, "text": "spam", "clientId": "before"})
    moderated = await start_node(MODERATION_WEBHOOK=hook.url)
    again = await connect(moderated, alice.user_id)
    answer = await ok(again, "message:send", {**here, "text": "spam", "clientId": "before"})
    assert answer == {**said, "duplicate": True}
    assert (await refused(again, "message:send", {**here, "text": "spam", "clientId": "after"}))["code"] == "FORBIDDEN"


@pytest.mark.parametrize("fail_open", ["on", "off"])
async def test_a_failing_webhook_lets_pass_or_not(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId, hook: HookServer, fail_open: str
) -> None:
    """Late, redirected, with another status, broken, too large, no verdict or gone: MODERATION_FAIL_OPEN decides."""
    node = await start_node(MODERATION_WEBHOOK=hook.url, MODERATION_FAIL_OPEN=fail_open)
    alice, _, here = await open_room(connect, node, user_id)
    begun = time.monotonic()
    answers = [await alice.call("message:send", {**here, "text": text}) for text in FAILURES]
    assert 1.4 < time.monotonic() - begun < 3.5
    await hook.stop()
    answers.append(await alice.call("message:send", {**here, "text": "gone"}))
    if fail_open == "on":
        assert [answer["message"]["text"] for answer in answers] == [*FAILURES, "gone"]
    else:
        assert {(answer["error"]["code"], answer["error"]["retryable"]) for answer in answers} == {
            ("UNAVAILABLE", True)
        }
        assert (await ok(alice, "message:history", here))["messages"] == []
    assert "moderation hook failed" in node.log_text()


async def test_a_function_is_a_hook_and_keeps_the_order(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId
) -> None:
    """A Python entry point decides in the process; a slow verdict does not let later messages overtake."""
    node = await start_node(MODERATION_HOOK="tests.hook:verdict", MODERATION_FAIL_OPEN="off")
    alice, bob, here = await open_room(connect, node, user_id)
    texts = ["later 1", "bad word", "later 2", "quick"]
    answers = await asyncio.gather(*(ok(alice, "message:send", {**here, "text": text}) for text in texts))
    assert [answer["seq"] for answer in answers] == [1, 2, 3, 4]
    received = await bob.received.until("message:received", 4)
    assert [message["text"] for message in received] == ["later 1", "*** ****", "later 2", "quick"]
    assert (await refused(alice, "message:send", {**here, "text": "spam"}))["code"] == "FORBIDDEN"
    assert (await refused(alice, "message:send", {**here, "text": "crash"}))["code"] == "UNAVAILABLE"


async def test_an_edit_is_moderated_like_a_message(
    start_node: Callable[..., Any], connect: Connect, user_id: UserId
) -> None:
    """What may not be said may not be put in place of what was said."""
    node = await start_node(MODERATION_HOOK="tests.hook:verdict")
    alice, _, here = await open_room(connect, node, user_id)
    await ok(alice, "message:send", {**here, "text": "hello"})
    edit = {**here, "seq": 1}
    assert (await ok(alice, "message:edit", {**edit, "text": "bad word"}))["message"]["text"] == "*** ****"
    assert (await refused(alice, "message:edit", {**edit, "text": "spam"}))["code"] == "FORBIDDEN"
    assert (await ok(alice, "message:history", here))["messages"][0]["text"] == "*** ****"


@pytest.mark.parametrize("path", ["tests.hook:nothing_there", "no_such_module:verdict", "tests.hook:not_async"])
def test_a_function_that_is_no_hook(path: str) -> None:
    """One sentence names the setting and what is wrong with it."""
    with pytest.raises(SettingsError, match=f"MODERATION_HOOK: {path}"):
        load_hook(path)


async def test_a_node_does_not_start_without_its_hook(start_node: Callable[..., Any]) -> None:
    """Rather than let everything pass, it ends with that sentence and the exit status of wrong settings."""
    with pytest.raises(AssertionError, match=r"ended with 2:(.|\n)*MODERATION_HOOK: tests.hook:not_async"):
        await start_node(MODERATION_HOOK="tests.hook:not_async")
