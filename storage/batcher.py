"""Group commit and group reads: what many callers ask for at once becomes one operation on the store."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from protocol.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_MAX = 256
"""Larger batches gain little and make the first caller wait for the last."""
PATIENCE_SECONDS = 4.5
"""A caller behind a flush that hangs until its own timeout is answered before the deadline of 5 s all the same."""
QUEUE_MAX = 10_000
"""What may wait; beyond it the store is too slow, and callers are told so at once."""


class Batcher(Generic[Item, Result]):
    """Gathers items while the batch before is under way, then flushes them together.

    `flush` takes up to `batch_max` items and returns as many results in the same order; a result that is an exception
    is raised for its caller alone, an exception that `flush` raises for all of them. Items keep the order of `submit`
    and one flush runs at a time, so that an item is never part of a flush that began before it was submitted: a read
    sees every write that was acknowledged before it. Cancelling a caller ends its wait, not the batch.
    """

    def __init__(
        self,
        flush: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        batch_max: int = BATCH_MAX,
        queue_max: int = QUEUE_MAX,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._flush = flush
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._patience_seconds = patience_seconds
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._waits: deque[tuple[float, asyncio.Future[Result]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, item: Item) -> Result:
        """The result of this item's flush.

        Raises: Unavailable when the queue is full or closed, or patience ends; whatever the flush raised.
        """
        if self._closed or len(self._queue) >= self._queue_max:
            raise Unavailable
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Result] = loop.create_future()
        self._queue.append((item, waiter))
        self._bound(waiter, loop)
        if self._worker is None:
            # A batch belongs to no caller: it must not inherit the deadline of whoever came first.
            self._worker = asyncio.create_task(self._work(), context=Context())
        return await waiter

    async def close(self) -> None:
        """Take nothing more, and wait until what was taken is flushed."""
        self._closed = True
        if self._worker is not None:
            await asyncio.wait([self._worker])
        if self._timer is not None:
            self._timer.cancel()

    def _bound(self, waiter: asyncio.Future[Result], loop: asyncio.AbstractEventLoop) -> None:
        """Let patience with this caller end: one timer for all, for they come and go in about the same order."""
        while self._waits and self._waits[0][1].done():
            self._waits.popleft()
        self._waits.append((loop.time() + self._patience_seconds, waiter))
        if self._timer is None:
            self._timer = loop.call_at(self._waits[0][0], self._lose_patience, loop)

    def _lose_patience(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waits and (self._waits[0][1].done() or self._waits[0][0] <= loop.time()):
            _settle(self._waits.popleft()[1], Unavailable())
        self._timer = loop.call_at(self._waits[0][0], self._lose_patience, loop) if self._waits else None

    async def _work(self) -> None:
        try:
            # Let the callers of this loop tick in.
            await asyncio.sleep(0)
            while self._queue:
                size = min(self._batch_max, len(self._queue))
                await self._run([self._queue.popleft() for _ in range(size)])
        finally:
            self._worker = None
            while self._queue:
                _settle(self._queue.popleft()[1], Unavailable())

    async def _run(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"a flush of {len(batch)} items returned {len(results)} results")
        except Exception as error:
            results = [error] * len(batch)
        except BaseException:
            for _, waiter in batch:
                _settle(waiter, Unavailable())
            raise
        for (_, waiter), result in zip(batch, results, strict=True):
            _settle(waiter, result)


def _settle(waiter: asyncio.Future[Result], result: Result | Exception) -> None:
    if waiter.done():
        return
    if isinstance(result, Exception):
        waiter.set_exception(result)
    else:
        waiter.set_result(result)
