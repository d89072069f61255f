"""The demo page in headless Chromium: what people see of each other, and what they do with messages."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser import (
    PHONE,
    SLOW_MS,
    Server,
    SignIn,
    bubble,
    choose,
    missing,
    start_direct,
    start_group,
    write,
)

_REASON = missing()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=_REASON or "")

UNNAMED = """() => [...document.querySelectorAll('button, a[href], input, textarea, select, [role=option], dialog')]
    .filter((element) => element.checkVisibility({ visibilityProperty: true }))
    .filter((element) => {
        const ids = (element.getAttribute('aria-labelledby') ?? '').split(' ');
        const words = ids.map((id) => document.getElementById(id)?.textContent ?? '').join('');
        const labels = [...(element.labels ?? [])].map((label) => label.textContent).join('');
        return !(element.getAttribute('aria-label') || words || labels || element.textContent).trim();
    })
    .map((element) => element.outerHTML)"""
FITS = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"


async def pair(sign_in: SignIn, name: str) -> tuple[Page, Page]:
    """Two people in a direct room, with one message of the first."""
    alice, bob = await sign_in(f"{name}-alice"), await sign_in(f"{name}-bob")
    await start_direct(alice, f"{name}-bob")
    await write(alice, "hello bob")
    await bob.get_by_role("link", name=f"{name}-alice").click()
    await expect(bubble(bob, "hello bob")).to_be_visible()
    return alice, bob


async def reacted(page: Page, text: str, label: str, *, own: bool) -> None:
    """The message shows this reaction, marked as one's own or not."""
    chip = bubble(page, text).get_by_role("button", name=label)
    await expect(chip).to_have_attribute("aria-pressed", "true" if own else "false")


async def test_the_other_sees_typing_until_it_ends(sign_in: SignIn) -> None:
    """Whoever types is named below the messages and in the list, and no longer once nothing is left to send."""
    alice, bob = await pair(sign_in, "typing")
    await alice.get_by_label("Message", exact=True).press_sequentially("he")
    await expect(bob.locator("#typing")).to_have_text("typing-alice is typing")
    await expect(bob.get_by_role("link", name="typing-alice")).to_contain_text("typing…")
    await alice.get_by_label("Message", exact=True).fill("")
    await expect(bob.locator("#typing")).to_have_text("")


async def test_ticks_go_from_sent_to_delivered_to_read(sign_in: SignIn) -> None:
    """One tick while the other is away, two when their page has it, coloured once they open the room."""
    alice = await sign_in("ticks-alice")
    await start_direct(alice, "ticks-bob")
    await write(alice, "did you see this?")
    mark = bubble(alice, "did you see this?").locator(".mark")
    await expect(mark).to_have_attribute("title", "Sent")
    bob = await sign_in("ticks-bob")
    await expect(mark).to_have_attribute("title", "Delivered")
    await bob.get_by_role("link", name="ticks-alice").click()
    await expect(mark).to_have_attribute("title", "Read")


async def test_a_group_counts_readers_and_names_them(sign_in: SignIn) -> None:
    """In a group one's message says how many have read it, and its menu who."""
    alice, bob = await sign_in("readers-alice"), await sign_in("readers-bob")
    await start_group(alice, "Readers", "readers-bob", "readers-carol")
    await write(alice, "for everybody")
    await bob.get_by_role("link", name="Readers").click()
    await expect(bubble(alice, "for everybody").locator(".mark")).to_have_attribute("title", "Read by 1")
    await choose(alice, "for everybody", "Who has read this")
    await expect(alice.locator("#readers .member")).to_have_count(1)
    await expect(alice.locator("#readers .member")).to_contain_text("readers-bob")


async def test_an_edit_is_seen_by_the_other(sign_in: SignIn) -> None:
    """An edited message has its new text and says so on both sides; the draft that was begun before comes back."""
    alice, bob = await pair(sign_in, "edit")
    composer = alice.get_by_label("Message", exact=True)
    await composer.fill("a draft")
    await choose(alice, "hello bob", "Edit")
    await expect(composer).to_have_value("hello bob")
    await write(alice, "hello robert")
    for page in (alice, bob):
        await expect(bubble(page, "hello robert").get_by_text("edited")).to_be_visible()
    await expect(composer).to_have_value("a draft")
    await composer.fill("")
    await composer.press("ArrowUp")
    await expect(composer).to_have_value("hello robert")
    await composer.press("Escape")
    await expect(composer).to_have_value("")


async def test_a_deleted_message_is_shown_as_such(sign_in: SignIn) -> None:
    """Deleting asks first, then leaves its place on both sides and in the list."""
    alice, bob = await pair(sign_in, "delete")
    await choose(alice, "hello bob", "Delete…")
    await alice.get_by_role("menuitem", name="Delete for everybody").click()
    for page in (alice, bob):
        await expect(page.locator("#message-list .text")).to_have_text("Message deleted")
    await expect(bob.get_by_role("link", name="delete-alice")).to_contain_text("Message deleted")
    await expect(bob.locator("#message-list").get_by_role("button")).to_have_count(0)


async def test_reactions_are_counted_and_taken_back(sign_in: SignIn) -> None:
    """A reaction appears on both sides, counts both, marks one's own, and goes on the second press."""
    alice, bob = await pair(sign_in, "emoji")
    await bubble(bob, "hello bob").hover()
    await bubble(bob, "hello bob").get_by_role("button", name="React").click()
    await bob.get_by_role("button", name="Celebration").click()
    await reacted(bob, "hello bob", "🎉 1, yours too", own=True)
    await bubble(alice, "hello bob").get_by_role("button", name="🎉 1").click()
    await reacted(alice, "hello bob", "🎉 2, yours too", own=True)
    await bubble(bob, "hello bob").get_by_role("button", name="🎉 2").click()
    await reacted(alice, "hello bob", "🎉 1, yours too", own=True)
    await reacted(bob, "hello bob", "🎉 1", own=False)
    await bubble(bob, "hello bob").get_by_role("button", name="React").click()
    await bob.get_by_label("Any other emoji").fill("☀")
    await bob.locator("#emoji").get_by_role("button", name="React").click()
    await reacted(alice, "hello bob", "☀️ 1", own=False)
    await bubble(bob, "hello bob").get_by_role("button", name="React").click()
    await bob.get_by_label("Any other emoji").fill("no")
    await bob.locator("#emoji").get_by_role("button", name="React").click()
    await expect(bob.locator("#notice")).to_have_text("no is not an emoji that can be used here.")


async def test_a_thread_is_a_place_of_its_own(sign_in: SignIn) -> None:
    """Replies count on the root, come live into the other's thread, and say in the room what they answer."""
    alice, bob = await pair(sign_in, "thread")
    await choose(bob, "hello bob", "Open thread")
    await write(bob, "first reply", "Reply in thread")
    await expect(bob.locator("#thread-list .text")).to_have_text(["first reply"])
    await expect(bubble(alice, "first reply").locator(".quote")).to_contain_text("hello bob")
    await alice.get_by_role("button", name="1 reply").click()
    await expect(alice.locator("#thread-list .text")).to_have_text(["first reply"])
    await write(alice, "second reply", "Reply in thread")
    await expect(bob.locator("#thread-list .text")).to_have_text(["first reply", "second reply"])
    await expect(bob.get_by_role("button", name="2 replies")).to_be_visible()
    await bob.reload()
    await expect(bob.locator("#thread-list .text")).to_have_text(["first reply", "second reply"])
    await bob.get_by_role("button", name="Close thread").click()
    await expect(bob.get_by_role("complementary", name="Thread")).to_be_hidden()


async def test_a_mention_is_completed_counted_and_notified(sign_in: SignIn) -> None:
    """@ offers members by name; the one mentioned sees it in the list, in the bell, and is led there from it."""
    alice, bob = await sign_in("mention-alice"), await sign_in("mention-bob")
    await start_group(alice, "Mentions", "mention-bob")
    composer = alice.get_by_label("Message", exact=True)
    await composer.press_sequentially("look, @mention")
    await expect(alice.get_by_role("option")).to_have_text(["MB@mention-bob"])
    await composer.press("Enter")
    await expect(composer).to_have_value("look, @mention-bob ")
    await composer.press("Enter")
    await expect(bubble(alice, "look, ").locator(".mention")).to_have_text("@mention-bob")
    await expect(bob.get_by_role("link", name="Mentions")).to_contain_text("1 mentioning you")
    await bob.get_by_role("button", name="Notifications, 1 unread").click()
    await bob.get_by_role("dialog").get_by_role("button", name="look, @mention-bob").click()
    await expect(bubble(bob, "look, ").locator(".mention.mine")).to_have_text("@mention-bob")
    await expect(bob.get_by_role("button", name="Notifications", exact=True)).to_be_visible()
    await composer.press_sequentially("@ro")
    await expect(alice.get_by_role("option")).to_contain_text("Everybody in this room")


async def test_a_pinned_message_is_found_again(sign_in: SignIn) -> None:
    """What an admin pins is announced above the messages to all, leads to the message, and can be unpinned."""
    alice, bob = await sign_in("pin-alice"), await sign_in("pin-bob")
    await start_group(alice, "Pins", "pin-bob")
    await write(alice, "the plan")
    await bob.get_by_role("link", name="Pins").click()
    await choose(alice, "the plan", "Pin")
    await bob.get_by_role("button", name="1 pinned message").click()
    await expect(bob.get_by_role("button", name="Unpin")).to_have_count(0)
    await bob.get_by_role("dialog").get_by_role("button", name="the plan").click()
    await expect(bubble(bob, "the plan").get_by_role("button", name="Actions")).to_be_focused()
    await choose(alice, "the plan", "Unpin")
    await expect(bob.get_by_role("button", name="1 pinned message")).to_be_hidden()


async def test_unread_and_mute_come_from_the_server(sign_in: SignIn) -> None:
    """After a reload the list counts as before; a muted room still does, without counting in the title."""
    alice, bob = await sign_in("badge-alice"), await sign_in("badge-bob")
    await start_direct(alice, "badge-bob")
    await write(alice, "one")
    await write(alice, "two")
    room = bob.get_by_role("link", name="badge-alice")
    await expect(room.locator(".badge")).to_have_text(re.compile("^2"))
    await bob.reload()
    await expect(room.locator(".badge")).to_have_text(re.compile("^2"))
    await expect(bob).to_have_title("(2) Parley")
    await room.click()
    await expect(bubble(bob, "two")).to_be_visible()
    await bob.get_by_role("button", name="Members and details").click()
    await bob.get_by_role("combobox", name="Notifications").select_option("Mute for 8 hours")
    await expect(bob.get_by_role("combobox", name="Notifications").locator("option:checked")).to_contain_text("Muted")
    await bob.reload()
    await expect(room).to_contain_text("Muted")
    await expect(room.locator(".badge")).to_have_count(0)


async def test_presence_shows_on_the_list_and_in_the_header(sign_in: SignIn) -> None:
    """A dot while somebody is here, in the status they chose; none, and when they were seen, once they are gone."""
    alice, bob = await pair(sign_in, "dot")
    avatar = alice.locator("#rooms .avatar")
    await expect(avatar).to_have_attribute("data-status", "online")
    await bob.get_by_role("button", name="change your status").click()
    await bob.get_by_role("menuitemcheckbox", name="Busy").click()
    await expect(avatar).to_have_attribute("data-status", "busy")
    await expect(alice.locator("#room-kind")).to_have_text("Busy")
    await bob.context.close()
    await expect(avatar).to_have_attribute("data-status", "offline", timeout=SLOW_MS)
    await expect(alice.locator("#room-kind")).to_contain_text("Last seen")


async def test_a_blocked_person_cannot_write(sign_in: SignIn) -> None:
    """Blocking from the details refuses the other's messages, and unblocking takes them again."""
    alice, bob = await pair(sign_in, "block")
    await bob.get_by_role("button", name="Members and details").click()
    await bob.get_by_role("button", name="Block block-alice").click()
    await expect(bob.get_by_role("button", name="Unblock block-alice")).to_be_visible()
    await write(alice, "are you there?")
    await expect(bubble(alice, "are you there?")).to_contain_text("Not sent")
    await bob.get_by_role("button", name="Unblock block-alice").click()
    await expect(bob.get_by_role("button", name="Block block-alice", exact=True)).to_be_visible()
    await bubble(alice, "are you there?").get_by_role("button", name="Retry").click()
    await expect(bubble(bob, "are you there?")).to_be_attached()


async def test_changes_made_while_a_page_was_offline_are_caught_up(sign_in: SignIn) -> None:
    """What was edited, deleted and reacted to meanwhile is right after the reconnect, without a reload."""
    alice, bob = await pair(sign_in, "caught")
    await write(alice, "to be deleted")
    await write(alice, "to be liked")
    await expect(bubble(bob, "to be liked")).to_be_visible()
    await bob.context.set_offline(True)
    await expect(bob.locator("#status")).to_have_text("Offline", timeout=SLOW_MS)
    await choose(alice, "hello bob", "Edit")
    await write(alice, "hello robert")
    await choose(alice, "to be deleted", "Delete…")
    await alice.get_by_role("menuitem", name="Delete for everybody").click()
    await bubble(alice, "to be liked").hover()
    await bubble(alice, "to be liked").get_by_role("button", name="Actions").click()
    await alice.get_by_role("menuitemcheckbox", name="Heart").click()
    await expect(alice.locator("#message-list .text")).to_have_text(["hello robert", "Message deleted", "to be liked"])
    await expect(bubble(alice, "to be liked").locator(".reaction")).to_have_count(1)
    await bob.context.set_offline(False)
    texts = bob.locator("#message-list .text")
    await expect(texts).to_have_text(["hello robert", "Message deleted", "to be liked"], timeout=SLOW_MS)
    await reacted(bob, "to be liked", "❤️ 1", own=False)


async def test_names_of_profiles_are_shown(sign_in: SignIn, server: Server) -> None:
    """Somebody whose token carries a name is shown under it in the list, the header and the messages."""
    alice = await sign_in("named-alice", token=server.token("named-alice", name="Alice Archer"))
    bob = await sign_in("named-bob")
    await start_group(alice, "Names", "named-bob")
    await write(alice, "hello")
    await expect(bob.get_by_role("link", name="Names")).to_contain_text("Alice Archer: hello")
    await bob.get_by_role("link", name="Names").click()
    await expect(bubble(bob, "hello").locator(".sender")).to_have_text("Alice Archer")


async def test_a_session_that_expires_can_be_prolonged(sign_in: SignIn, server: Server) -> None:
    """A minute before its end the page says so, takes a newer token, and goes on with it, after a reload too."""
    page = await sign_in("expiry-alice", token=server.token("expiry-alice", ttl_seconds=62))
    await page.get_by_role("button", name="Stay signed in").click()
    field = page.get_by_label("A newer token of yours")
    await field.fill(server.token("expiry-bob"))
    await page.get_by_role("button", name="Go on").click()
    await expect(page.locator("#renew .problem")).to_have_text("You are not allowed to do this.")
    newer = server.token("expiry-alice")
    await field.fill(newer)
    await page.get_by_role("button", name="Go on").click()
    await expect(page.get_by_text("You will be signed out")).to_be_hidden()
    assert await page.evaluate("() => JSON.parse(sessionStorage.getItem('parley.token'))") == newer


async def test_the_keyboard_alone_is_enough(sign_in: SignIn) -> None:
    """Sign-in, opening a room, sending, a message's menu, reacting, a thread and back: no pointer, no lost focus."""
    await pair(sign_in, "keys")
    page = await sign_in("keys-bob")
    await page.get_by_role("link", name="keys-alice").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Message", exact=True)).to_be_focused()
    await page.keyboard.type("typed")
    await page.keyboard.press("Enter")
    await expect(bubble(page, "typed").locator(".mark")).to_have_attribute("title", re.compile("Sent|Delivered|Read"))
    await page.keyboard.press("Shift+Tab")
    await expect(bubble(page, "typed").get_by_role("button", name="Actions")).to_be_focused()
    await page.keyboard.press("ArrowUp")
    await expect(bubble(page, "hello bob").get_by_role("button", name="Actions")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("menuitemcheckbox", name="Thumbs up")).to_be_focused()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Enter")
    await reacted(page, "hello bob", "❤️ 1, yours too", own=True)
    await expect(bubble(page, "hello bob").get_by_role("button", name="Actions")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("menu")).to_be_hidden()
    await expect(bubble(page, "hello bob").get_by_role("button", name="Actions")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.get_by_role("menuitem", name="Open thread").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Reply in thread", exact=True)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(bubble(page, "hello bob").get_by_role("button", name="Actions")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_control_has_a_name_and_every_screen_fits_a_phone(sign_in: SignIn, scheme: str) -> None:
    """At 390 px no screen, menu or dialog scrolls sideways, and each control is named for screen readers."""
    page = await sign_in(f"names-{scheme}", viewport=PHONE)
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await start_group(page, "A title " + "that is long " * 12, f"names-bob-{scheme}")
    await write(page, f"see @names-bob-{scheme} " + "unbroken" * 30)
    await write(page, "short")
    await choose(page, "short", "Pin")

    async def check() -> None:
        assert await page.evaluate(UNNAMED) == []
        assert await page.evaluate(FITS)

    await check()
    await bubble(page, "short").get_by_role("button", name="Actions").focus()
    await page.keyboard.press("Enter")
    await check()
    await page.get_by_text("More reactions…").click()
    await check()
    await page.keyboard.press("Escape")
    for button in ("Members and details", "1 pinned message"):
        await page.get_by_role("button", name=button).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await check()
        await page.keyboard.press("Escape")
    await choose(page, "short", "Open thread")
    await expect(page.get_by_role("complementary", name="Thread")).to_be_visible()
    await expect(page.get_by_label("Message", exact=True)).to_be_hidden()
    await check()
    await page.get_by_role("button", name="Close thread").click()
    await page.get_by_role("link", name="Back to the list").click()
    await check()
    for button in ("Notifications", "Open a room by id", "New conversation"):
        await page.get_by_role("button", name=button).click()
        await check()
        await page.keyboard.press("Escape")
    await page.get_by_role("button", name="change your status").click()
    await check()
