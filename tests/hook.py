"""A moderation service of the operator's, as a real HTTP server, and as functions that a node can import."""

import asyncio
from typing import Any

from aiohttp import web


class HookServer:
    """Answers by what a message says; keeps what it was asked. `url` is its address while it runs."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Serve on a free port of the loopback."""
        app = web.Application()
        app.router.add_post("/moderate", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/moderate"

    async def stop(self) -> None:
        """End it."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        message = await request.json()
        self.asked.append(message)
        text = message["text"]
        if text == "slow":
            await asyncio.sleep(10)
        if text == "redirect":
            return web.HTTPFound(request.url)
        if text == "status":
            return web.json_response({"action": "allow"}, status=201)
        if text == "broken":
            return web.Response(text="{", content_type="application/json")
        if text == "huge":
            return web.json_response({"action": "allow", "padding": "x" * 65_536})
        return web.json_response(await verdict(message))


async def verdict(message: dict[str, Any]) -> Any:
    """What is thought of a message, by its text."""
    text = message["text"]
    await asyncio.sleep(0.05 if text.startswith("later") else 0)
    answers: dict[str, Any] = {
        "bad word": {"action": "rewrite", "text": "*** ****"},
        "spam": {"action": "reject", "reason": "no advertising, please"},
        "silent spam": {"action": "reject", "reason": ""},
        "odd": {"action": "shrug"},
        "nothing": None,
        "empty": {"action": "rewrite", "text": ""},
    }
    if text == "crash":
        raise RuntimeError("the hook has a fault")
    return answers.get(text, {"action": "allow", "score": 0.1})


def not_async(message: dict[str, Any]) -> Any:
    """No hook: it would block."""
