"""Chromium under Playwright: the system's own browser, with nothing that reaches beyond this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, WebSocketRoute, async_playwright

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
