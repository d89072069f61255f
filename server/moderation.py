"""The operator's moderation hook, as the settings name it: a webhook, or a function of their own."""

import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import orjson

from handlers.moderation import HOOK_SECONDS, Hook
from server.settings import SettingsError

ANSWER_MAX_BYTES: Final = 64 * 1024
"""A verdict with the longest text fits in; nothing that is larger is one."""
CONNECTIONS_MAX: Final = 100
"""Calls at once; more wait for one of these, within the time that a verdict may take."""


class HookFailed(Exception):
    """The webhook answered, but with no verdict."""


class Webhook:
    """Posts each message as JSON to one address, and takes the JSON of a 200 as the verdict. Redirects are failures."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the connection pool; nothing is sent yet."""
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=HOOK_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def stop(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.close()

    async def __call__(self, submission: dict[str, Any]) -> Any:
        """The verdict, unchecked. Raises: HookFailed; what aiohttp and orjson raise; TimeoutError."""
        if self._http is None:
            raise HookFailed("not started")
        headers = {"Content-Type": "application/json"}
        body = orjson.dumps(submission)
        async with self._http.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise HookFailed(f"status {response.status}")
            answer = b""
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > ANSWER_MAX_BYTES:
                    raise HookFailed(f"more than {ANSWER_MAX_BYTES} bytes")
            return orjson.loads(answer)


def load_hook(path: str) -> Hook:
    """The function that "module:function" names. Raises: SettingsError when there is no such async function."""
    module_name, _, function_name = path.partition(":")
    try:
        function: Callable[[dict[str, Any]], Awaitable[Any]] = getattr(
            importlib.import_module(module_name), function_name
        )
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"MODERATION_HOOK: {path} cannot be imported: {error}") from error
    if not inspect.iscoroutinefunction(function):
        raise SettingsError(f"MODERATION_HOOK: {path} is no async function")
    return function
