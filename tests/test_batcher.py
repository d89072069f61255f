"""Batches: who shares one, what a caller learns, and what cancelling does."""

import asyncio

import pytest

from protocol.errors import Conflict, Unavailable
from storage.batcher import Batcher


class Store:
    """Doubles numbers a batch at a time, and holds batches back while its gate is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def double(self, numbers: list[int]) -> list[int | Exception]:
        """The doubles; a Conflict in the place of 13, a failure of all for a negative number."""
        self.batches.append(numbers)
        self.begun.set()
        await self.gate.wait()
        if min(numbers) < 0:
            raise Unavailable("negative")
        return [Conflict() if number == 13 else 2 * number for number in numbers]


async def test_callers_of_one_tick_share_a_batch() -> None:
    """Everything asked for in one loop tick goes out together, and each caller gets its own answer."""
    store = Store()
    batcher = Batcher(store.double)
    assert await asyncio.gather(*(batcher.submit(number) for number in range(5))) == [0, 2, 4, 6, 8]
    assert store.batches == [[0, 1, 2, 3, 4]]


async def test_the_next_batch_gathers_while_one_is_under_way() -> None:
    """One batch at a time: later callers wait for the next, which is cut at its bound."""
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.double, batch_max=3)
    first = asyncio.create_task(batcher.submit(0))
    await asyncio.wait_for(store.begun.wait(), 5)
    rest = [asyncio.create_task(batcher.submit(number)) for number in range(1, 6)]
    await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10]
    assert store.batches == [[0], [1, 2, 3], [4, 5]]


async def test_one_result_may_fail_alone() -> None:
    """An exception among the results is raised for its caller, the others get theirs."""
    batcher = Batcher(Store().double)
    results = await asyncio.gather(*(batcher.submit(number) for number in (12, 13, 14)), return_exceptions=True)
    assert results[0] == 24
    assert isinstance(results[1], Conflict)
    assert results[2] == 28


async def test_a_failed_flush_fails_its_own_batch_only() -> None:
    """What a flush raises reaches everybody in it, and the batcher goes on."""
    batcher = Batcher(Store().double)
    results = await asyncio.gather(batcher.submit(-1), batcher.submit(1), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert await batcher.submit(3) == 6


async def test_cancelling_a_caller_leaves_the_batch_alone() -> None:
    """A caller that gives up neither stops the batch under way nor takes its item out of the next."""
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.double)
    under_way = [asyncio.create_task(batcher.submit(number)) for number in (1, 2)]
    await asyncio.wait_for(store.begun.wait(), 5)
    waiting = [asyncio.create_task(batcher.submit(number)) for number in (3, 4)]
    await asyncio.sleep(0)
    under_way[0].cancel()
    waiting[0].cancel()
    store.gate.set()
    assert [await under_way[1], await waiting[1]] == [4, 8]
    assert store.batches == [[1, 2], [3, 4]]
    assert under_way[0].cancelled()
    assert waiting[0].cancelled()


async def test_a_full_queue_refuses_at_once() -> None:
    """Beyond the bound a caller is told so, instead of waiting behind the others."""
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.double, queue_max=2)
    under_way = asyncio.create_task(batcher.submit(1))
    await asyncio.wait_for(store.begun.wait(), 5)
    queued = [asyncio.create_task(batcher.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await batcher.submit(4)
    store.gate.set()
    assert await asyncio.gather(under_way, *queued) == [2, 4, 6]


async def test_patience_ends_for_a_caller_behind_a_flush_that_hangs() -> None:
    """A store that does not come back answers nobody; callers are told after their patience, the batch still runs."""
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.double, patience_seconds=0.02)
    for number in (1, 2):
        with pytest.raises(Unavailable):
            await batcher.submit(number)
    store.gate.set()
    await batcher.close()
    assert store.batches == [[1], [2]]


async def test_close_finishes_what_was_taken() -> None:
    """Closing waits for the callers already in, and refuses new ones."""
    store = Store()
    batcher = Batcher(store.double, batch_max=1)
    taken = [asyncio.create_task(batcher.submit(number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    await batcher.close()
    assert [task.result() for task in taken] == [2, 4, 6]
    with pytest.raises(Unavailable):
        await batcher.submit(4)
