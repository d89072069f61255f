"""What the server shows of itself while it is under load: its gauges, and how long its loop lets one wait."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

import aiohttp

from loadtests.latency import Histogram

PROBE_SECONDS = 0.1
"""Between two looks at the loop: often enough to meet a stall of 100 ms, too seldom to be load."""
MEMORY_SECONDS = 1.0
"""Between two looks at the memory, which costs the server some milliseconds to tell."""
ANSWER_SECONDS = 10.0

CONNECTIONS, CPU, MEMORY = "parley_connections", "process_cpu_seconds_total", "process_resident_memory_bytes"


class Gauges(NamedTuple):
    """Of all servers together: open Socket.IO sessions, CPU seconds used so far, resident memory in bytes."""

    connections: int
    cpu_seconds: float
    memory_bytes: int


class Lap(NamedTuple):
    """Between two looks: how long `/health/liveness` took to answer, in µs, and the most memory seen, in bytes."""

    waits: Histogram
    memory_peak_bytes: int


class Watch:
    """Looks at the servers from `async with` on, all the time. A server that does not answer is no error."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [url.replace("ws", "http", 1) if url.startswith("ws") else url for url in urls]
        self._lap = Lap(Histogram(), 0)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Watch":
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))
        looks = [self._probe(url) for url in self._urls]
        self._tasks = [asyncio.create_task(look, name="watch") for look in [*looks, self._weigh()]]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    def lap(self) -> Lap:
        """What was seen since the last call."""
        lap, self._lap = self._lap, Lap(Histogram(), 0)
        return lap

    async def read(self) -> Gauges | None:
        """The gauges now; None when a server does not show them."""
        parts = [await self._gauges(url) for url in self._urls]
        shown = [part for part in parts if part is not None]
        if len(shown) < len(parts):
            return None
        return Gauges(
            sum(part.connections for part in shown),
            sum(part.cpu_seconds for part in shown),
            sum(part.memory_bytes for part in shown),
        )

    async def _gauges(self, url: str) -> Gauges | None:
        try:
            async with self._http.get(f"{url.rstrip('/')}/health/metrics") as answer:
                text = await answer.text() if answer.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError):
            return None
        values = dict(line.split(" ")[:2] for line in text.splitlines() if line.startswith((CONNECTIONS, CPU, MEMORY)))
        if len(values) < 3:
            return None
        return Gauges(int(float(values[CONNECTIONS])), float(values[CPU]), int(float(values[MEMORY])))

    async def _probe(self, url: str) -> None:
        while True:
            began = time.monotonic_ns()
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.get(f"{url.rstrip('/')}/health/liveness"):
                    pass
            self._lap.waits.record((time.monotonic_ns() - began) // 1000)
            await asyncio.sleep(PROBE_SECONDS)

    async def _weigh(self) -> None:
        while True:
            gauges = await self.read()
            if gauges is not None and gauges.memory_bytes > self._lap.memory_peak_bytes:
                self._lap = self._lap._replace(memory_peak_bytes=gauges.memory_bytes)
            await asyncio.sleep(MEMORY_SECONDS)
