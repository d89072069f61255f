"""What tests do with a stock client, whichever it is: push, assert_ack, assert_event."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

EVENT_SECONDS = 10.0
POLL_SECONDS = 0.01


class Client(Protocol):
    """A user's device: a stock client connected to a node."""

    user_id: str
    received: "Received"

    def __init__(self, url: str, token: str, user_id: str, **options: Any) -> None: ...

    async def connect(self) -> dict[str, Any]:
        """Connect and return `session:ready`. Raises: Refused."""
        ...

    async def call(self, event: str, payload: Any = None, seconds: float = 10.0) -> dict[str, Any]:
        """Send an event and return its ack; without a payload none is sent."""
        ...

    async def push(self, event: str, *payload: Any) -> None:
        """Send an event without asking for an ack."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class Refused(Exception):
    """The handshake was refused; `data` is that of the connect_error."""

    def __init__(self, message: str, data: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data or {}


class Received:
    """The events that a device has been sent, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any]] = []
        self._taken = 0
        self._arrived = asyncio.Event()

    def add(self, event: str, payload: Any) -> None:
        """An event has come."""
        self.all.append((event, payload))
        self._arrived.set()

    def of(self, event: str) -> list[Any]:
        """The payloads of all events of this name so far."""
        return [payload for name, payload in self.all if name == event]

    async def next(self, event: str, seconds: float = EVENT_SECONDS) -> Any:
        """The next event of this name that no earlier call has returned; others before it are passed over."""
        end = time.monotonic() + seconds
        while True:
            while self._taken < len(self.all):
                name, payload = self.all[self._taken]
                self._taken += 1
                if name == event:
                    return payload
            await self._wait(end, event)

    async def until(self, event: str, count: int, seconds: float = EVENT_SECONDS) -> list[Any]:
        """All events of this name, once there are so many."""
        end = time.monotonic() + seconds
        while len(payloads := self.of(event)) < count:
            await self._wait(end, f"{count} times {event} (came: {len(payloads)})")
        return payloads

    async def _wait(self, end: float, what: str) -> None:
        self._arrived.clear()
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                await self._arrived.wait()
        except TimeoutError:
            names = [name for name, _ in self.all]
            raise AssertionError(f"did not come: {what}; came: {names[-20:]}") from None


async def ok(client: Client, event: str, payload: Any = None) -> dict[str, Any]:
    """Send an event that must succeed; returns its ack."""
    ack = await client.call(event, payload)
    assert ack.get("success") is True, f"{event} answered {ack}"
    return ack


async def refused(client: Client, event: str, payload: Any = None) -> dict[str, Any]:
    """Send an event that must fail; returns its error."""
    ack = await client.call(event, payload)
    assert ack.get("success") is False, f"{event} answered {ack}"
    error: dict[str, Any] = ack["error"]
    return error


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come to hold"
        await asyncio.sleep(POLL_SECONDS)
