"""Chromium under Playwright: the system's own browser, with nothing that reaches beyond this machine."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from playwright.async_api import Browser, BrowserContext, Locator, Page, WebSocketRoute, async_playwright, expect

CHROMIUM = Path("/usr/bin/chromium")
SOCKET_IO_CLIENT = Path(__file__).resolve().parents[1] / "node_modules/socket.io-client/dist/socket.io.esm.min.js"
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def missing() -> str | None:
    """Why no browser test can run here, or None."""
    if not CHROMIUM.exists():
        return f"no {CHROMIUM}"
    if not SOCKET_IO_CLIENT.exists():
        return "socket.io-client is not installed: run make"
    return None


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless browser that is closed at the end; contexts made in it are separate visitors."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS, headless=True)
        try:
            yield browser
        finally:
            await browser.close()


DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
SLOW_MS = 20_000  # A restarted server and a client's reconnection delay fit in.
expect.set_options(timeout=10_000)


class Server(Protocol):
    """The running server, as the fixture `server` gives it."""

    url: str

    def token(self, user_id: str, **claims: Any) -> str: ...
    def kill(self) -> None: ...
    async def restart(self) -> None: ...


class SignIn(Protocol):
    """Opens the page in a context of its own and signs in, as the fixture `sign_in` does."""

    async def __call__(
        self,
        user_id: str,
        *,
        viewport: Any = DESKTOP,
        token: str | None = None,
        path: str = "/",
        acks: "AckLoss | None" = None,
    ) -> Page: ...


@asynccontextmanager
async def visitors(browser: Browser, server: Server) -> AsyncIterator[SignIn]:
    """People at the page; any script error, on any of their pages, fails the test."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    async def visit(
        user_id: str,
        *,
        viewport: Any = DESKTOP,
        token: str | None = None,
        path: str = "/",
        acks: AckLoss | None = None,
    ) -> Page:
        context = await browser.new_context(viewport=viewport)
        contexts.append(context)
        page = await context.new_page()
        if acks:
            await page.route_web_socket(re.compile("/socket.io/"), acks.carry)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
        await page.goto(server.url + path)
        await page.get_by_label("Your token").fill(token or server.token(user_id))
        await page.get_by_role("button", name="Sign in").click()
        return page

    try:
        yield visit
    finally:
        for context in contexts:
            await context.close()
    assert errors == []


async def write(page: Page, text: str, label: str = "Message") -> None:
    """Writes into a composer and sends with the keyboard."""
    composer = page.get_by_label(label, exact=True)
    await composer.fill(text)
    await composer.press("Enter")


async def start_direct(page: Page, user_id: str) -> None:
    """Opens a direct conversation through the dialog."""
    await page.get_by_role("button", name="New conversation").click()
    await page.get_by_label("User id").fill(user_id)
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("heading", name=user_id)).to_be_visible()


async def start_group(page: Page, title: str, *members: str) -> None:
    """Makes a group through the dialog."""
    await page.get_by_role("button", name="New conversation").click()
    await page.get_by_text("Group", exact=True).click()
    await page.get_by_label("Title").fill(title)
    await page.get_by_role("textbox", name="Members").fill(", ".join(members))
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("heading", name=title)).to_be_visible()


def bubble(page: Page, text: str | re.Pattern[str]) -> Locator:
    """The messages with this text in the open room."""
    return page.locator("#message-list .message").filter(has_text=text)


async def choose(page: Page, text: str, action: str) -> None:
    """Chooses from a message's menu."""
    await bubble(page, text).hover()
    await bubble(page, text).get_by_role("button", name="Actions").click()
    await page.get_by_role("menu").get_by_text(action, exact=True).click()


class AckLoss:
    """A network between page and server that swallows the server's acks while `losing`."""

    def __init__(self) -> None:
        self.losing = False
        self.upgraded = asyncio.Event()

    def carry(self, page_side: WebSocketRoute) -> None:
        server_side = page_side.connect_to_server()

        def to_server(frame: str | bytes) -> None:
            if frame == "5":  # Engine.IO's upgrade: from here on nothing goes by polling.
                self.upgraded.set()
            server_side.send(frame)

        def to_page(frame: str | bytes) -> None:
            if not (self.losing and str(frame).startswith("43")):
                page_side.send(frame)

        page_side.on_message(to_server)
        server_side.on_message(to_page)
