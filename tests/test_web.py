"""The demo page in headless Chromium, against a started server: what a visitor does and sees."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import expect

from server.http.pages import setup_pages
from tests.browser import PHONE, SLOW_MS, AckLoss, Server, SignIn, bubble, missing, start_direct, write
from tests.clients.user import Client, ok
from tests.nodes import Node

_REASON = missing()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=_REASON or "")


async def test_two_people_talk(sign_in: SignIn) -> None:
    """Two browsers see each other's messages at once, each on its own side, and the sender's tick."""
    alice, bob = await sign_in("web-alice"), await sign_in("web-bob")
    await start_direct(alice, "web-bob")
    await write(alice, "hello bob")
    await bob.get_by_role("link", name="web-alice").click()
    await expect(bubble(bob, "hello bob")).to_have_class(re.compile(r"\bother\b"))
    await write(bob, "hello alice")
    await expect(bubble(alice, "hello alice")).to_have_class(re.compile(r"\bother\b"))
    await expect(bubble(alice, "hello bob")).to_have_class(re.compile(r"\bown\b"))
    await expect(bubble(alice, "hello bob").get_by_text("Sent", exact=True)).to_be_attached()
    await expect(bob.locator("#message-list .message")).to_have_count(2)


async def test_unread_messages_are_counted_and_read_on_opening(sign_in: SignIn) -> None:
    """A message in a room that is not open shows as unread in the list; opening the room takes the count away."""
    alice, bob = await sign_in("unread-alice"), await sign_in("unread-bob")
    await start_direct(alice, "unread-bob")
    await write(alice, "one")
    await write(alice, "two")
    room = bob.get_by_role("link", name="unread-alice")
    await expect(room.locator(".badge")).to_have_text(re.compile("^2"))
    await room.click()
    await expect(room.locator(".badge")).to_have_count(0)
    await expect(bob.get_by_text("New messages", exact=True)).to_be_visible()


async def test_markup_is_shown_as_text(sign_in: SignIn) -> None:
    """A message made of markup appears literally on both sides and makes no element."""
    markup = "<img src=x onerror=alert(1)><b>bold</b><script>alert(2)</script>"
    alice, bob = await sign_in("markup-alice"), await sign_in("markup-bob")
    await start_direct(alice, "markup-bob")
    await write(alice, markup)
    await expect(bob.get_by_role("link", name="markup-alice")).to_contain_text("<b>bold</b>")
    await bob.get_by_role("link", name="markup-alice").click()
    for page in (alice, bob):
        await expect(page.locator("#message-list .text")).to_have_text(markup)
        assert await page.locator("#message-list img, #message-list b, #message-list script").count() == 0


async def test_scrolling_back_loads_history_in_place(
    sign_in: SignIn, server: Node, connect: Callable[..., Awaitable[Client]]
) -> None:
    """120 messages: the newest page first, older ones on scrolling up, and what was in sight stays in sight."""
    alice = await connect(server, "history-alice")
    room = (await ok(alice, "room:create", {"kind": "direct", "memberIds": ["history-bob"]}))["room"]
    for number in range(1, 121):
        await ok(alice, "message:send", {"roomId": room["roomId"], "text": f"message {number:03}"})
    bob = await sign_in("history-bob")
    await bob.get_by_role("link", name="history-alice").click()
    await expect(bubble(bob, "message 120")).to_be_in_viewport()
    await expect(bubble(bob, "message 001")).to_have_count(0)
    rows = bob.locator("#message-list .message")
    loaded = await rows.count()
    await bob.locator("#messages").evaluate("element => { element.scrollTop = 450 }")
    in_sight = await bob.evaluate("""() => {
        const top = document.querySelector('#messages').getBoundingClientRect().top;
        const seen = [...document.querySelectorAll('.message')].find((row) => row.getBoundingClientRect().top > top);
        return { text: seen.querySelector('.text').textContent, top: seen.getBoundingClientRect().top };
    }""")
    await expect(rows).not_to_have_count(loaded)
    box = await bubble(bob, in_sight["text"]).bounding_box()
    assert box is not None
    assert abs(box["y"] - in_sight["top"]) < 3
    while (loaded := await rows.count()) < 120:
        await bob.locator("#messages").evaluate("element => { element.scrollTop = 0 }")
        await expect(rows).not_to_have_count(loaded)
    texts = await bob.locator("#message-list .text").all_text_contents()
    assert texts == [f"message {number:03}" for number in range(1, 121)]


async def test_a_phone_shows_one_screen_at_a_time(sign_in: SignIn) -> None:
    """At 390 px list and room are two screens with a way back, and nothing makes the page scroll sideways."""
    phone = await sign_in("phone-alice", viewport=PHONE)
    fits = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    await start_direct(phone, "phone-bob")
    await write(phone, "unbroken" * 60)
    await expect(bubble(phone, "unbroken").get_by_text("Sent", exact=True)).to_be_attached()
    await expect(phone.get_by_role("list", name="Rooms")).to_be_hidden()
    assert await phone.evaluate(fits)
    assert await phone.locator("#messages").evaluate("element => element.scrollWidth <= element.clientWidth")
    await phone.get_by_role("link", name="Back to the list").click()
    await expect(phone.get_by_role("list", name="Rooms")).to_be_visible()
    await expect(phone.get_by_label("Message", exact=True)).to_be_hidden()
    assert await phone.evaluate(fits)


async def test_a_message_written_while_the_server_is_away_arrives_once(sign_in: SignIn, server: Server) -> None:
    """It shows as being sent, goes out after the restart by itself, in order, and is there once on both sides."""
    alice, bob = await sign_in("away-alice"), await sign_in("away-bob")
    await start_direct(alice, "away-bob")
    await write(alice, "before")
    await bob.get_by_role("link", name="away-alice").click()
    await expect(bubble(bob, "before")).to_be_visible()
    try:
        server.kill()
        await expect(alice.locator("#status")).to_have_text("Reconnecting", timeout=SLOW_MS)
        await write(alice, "while away, one")
        await write(alice, "while away, two")
        await expect(alice.locator("#message-list .pending")).to_have_count(2)
    finally:
        await server.restart()
    for page in (alice, bob):
        await expect(page.locator("#status")).to_have_text("Connected", timeout=SLOW_MS)
        await expect(bubble(page, "while away, two")).to_be_visible(timeout=SLOW_MS)
        texts = page.locator("#message-list .text")
        await expect(texts).to_have_text(["before", "while away, one", "while away, two"])
    await expect(alice.locator("#message-list .pending")).to_have_count(0)


async def test_what_was_written_while_a_page_was_offline_is_filled_in(sign_in: SignIn) -> None:
    """A page that lost its network says so, and afterwards shows all that was missed, in order and once."""
    alice, bob = await sign_in("gap-alice"), await sign_in("gap-bob")
    await start_direct(alice, "gap-bob")
    await write(alice, "before")
    await bob.get_by_role("link", name="gap-alice").click()
    await expect(bubble(bob, "before")).to_be_visible()
    await alice.context.set_offline(True)
    await expect(alice.locator("#status")).to_have_text("Offline", timeout=SLOW_MS)
    for text in ("missed one", "missed two", "missed three"):
        await write(bob, text)
    await expect(bob.locator("#message-list .own:not(.pending)")).to_have_count(3)
    await alice.context.set_offline(False)
    await expect(bubble(alice, "missed three")).to_be_visible(timeout=SLOW_MS)
    texts = ["before", "missed one", "missed two", "missed three"]
    await expect(alice.locator("#message-list .text")).to_have_text(texts)


async def test_a_message_whose_ack_is_lost_is_stored_once(sign_in: SignIn) -> None:
    """Without the ack it stays marked as being sent, goes out again with its clientId, and is there once."""
    acks = AckLoss()
    alice, bob = await sign_in("ack-alice", acks=acks), await sign_in("ack-bob")
    await start_direct(alice, "ack-bob")
    await write(alice, "before")
    await bob.get_by_role("link", name="ack-alice").click()
    await asyncio.wait_for(acks.upgraded.wait(), 10)
    acks.losing = True
    await write(alice, "is anybody there?")
    await expect(bubble(bob, "is anybody there?")).to_be_visible()
    await expect(bubble(alice, "is anybody there?")).to_have_class(re.compile(r"\bpending\b"))
    acks.losing = False
    await expect(alice.locator("#message-list .pending")).to_have_count(0, timeout=SLOW_MS)
    await write(alice, "after")
    for page in (alice, bob):
        await expect(page.locator("#message-list .text")).to_have_text(["before", "is anybody there?", "after"])


async def test_a_group_is_made_invited_to_and_left(sign_in: SignIn) -> None:
    """A group appears with its invited member, whose view goes away on leaving."""
    alice, bob = await sign_in("group-alice"), await sign_in("group-bob")
    await alice.get_by_role("button", name="New conversation").click()
    await alice.get_by_text("Group", exact=True).click()
    await alice.get_by_label("Title").fill("Release team")
    await alice.get_by_role("button", name="Create").click()
    await alice.get_by_role("button", name="Members and details").click()
    await alice.get_by_label("Invite").fill("group-bob")
    await alice.get_by_role("button", name="Invite").click()
    await expect(alice.locator("#details .member")).to_have_count(2)
    await bob.get_by_role("link", name="Release team").click()
    await bob.get_by_role("button", name="Members and details").click()
    await bob.get_by_role("button", name="Leave").click()
    await bob.get_by_role("button", name="Really leave?").click()
    await expect(bob.get_by_role("link", name="Release team")).to_have_count(0)
    await expect(alice.locator("#details .member")).to_have_count(1)


async def test_a_channel_is_joined_by_its_link(sign_in: SignIn) -> None:
    """A link to a channel offers to join it, and joining opens it."""
    alice = await sign_in("channel-alice")
    await alice.get_by_role("button", name="New conversation").click()
    await alice.get_by_text("Channel", exact=True).click()
    await alice.get_by_label("Title").fill("Announcements")
    await alice.get_by_role("button", name="Create").click()
    await write(alice, "welcome")
    await expect(bubble(alice, "welcome").get_by_text("Sent", exact=True)).to_be_attached()
    link = await alice.evaluate("() => location.hash")
    bob = await sign_in("channel-bob", path=f"/{link}")
    await bob.get_by_role("button", name="Open", exact=True).click()
    await expect(bubble(bob, "welcome")).to_be_visible()


async def test_an_invalid_token_is_explained(sign_in: SignIn) -> None:
    """A token that is none leads back to the sign-in screen with a sentence, and is not kept."""
    page = await sign_in("nobody", token="not-a-token")
    await expect(page.get_by_role("alert")).to_contain_text("This token is not valid here.")
    assert await page.evaluate("() => sessionStorage.getItem('parley.token')") is None


async def test_a_text_that_is_too_long_is_not_sent(sign_in: SignIn) -> None:
    """Near the limit of 10,000 code points the composer counts; past it, it refuses."""
    page = await sign_in("long-alice")
    await start_direct(page, "long-bob")
    composer = page.get_by_label("Message", exact=True)
    await composer.fill("😀" * 10_000)
    await expect(page.locator("#composer-count")).to_have_text("0 characters left")
    await composer.fill("x" * 10_001)
    await expect(page.locator("#composer-count")).to_have_text("1 characters too many")
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()


async def test_pages_carry_their_headers(server: Server) -> None:
    """Every answer of the page forbids foreign content and framing; tokens are never cached; paths stay inside web/."""
    async with aiohttp.ClientSession(server.url) as session:
        expected = {
            "/": 200,
            "/static/app.js": 200,
            "/static/..%2Fpyproject.toml": 404,
            "/static/nothing.js": 404,
            "/vendor/socket.io.esm.min.js": 200,
            "/vendor/package.json": 404,
            "/dev/tokens": 200,
        }
        for path, status in expected.items():
            async with session.get(path) as answer:
                assert answer.status == status, path
                assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
                assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                if path == "/dev/tokens":
                    assert answer.headers["Cache-Control"] == "no-store"


async def test_production_hands_out_no_tokens() -> None:
    """In production `/dev/tokens` is absent whatever it is given, and the page itself is served."""
    app = web.Application()
    setup_pages(app, environment="production", dev_tokens=lambda: {"alice": "a token"})
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/dev/tokens")).status == 404
        page = await client.get("/")
        assert page.status == 200
        assert page.content_type == "text/html"
