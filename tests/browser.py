"""Chromium under Playwright: the system's own browser, with nothing that reaches beyond this machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, async_playwright

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
