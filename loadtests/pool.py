"""Worker processes and the pipes to them. One that dies is an error, never a hang."""

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

EXIT_SECONDS = 5.0
"""What a worker may take to end by itself, once its pipe is closed, before it is killed."""


class Order(NamedTuple):
    """From the parent: what to do next."""

    name: str
    body: Any = None


class Progress(NamedTuple):
    """From a worker, at any time: what happened around `at`, in seconds of the machine's monotonic clock."""

    phase: str
    body: Any
    at: float = 0.0


class Answer(NamedTuple):
    """From a worker: the order of this name is done."""

    order: str
    body: Any


class Failure(NamedTuple):
    """From a worker: it cannot go on; `text` says why."""

    text: str


class WorkerFailed(Exception):
    """A worker process has failed or died."""


class Pool:
    """One process for each share, running `target(pipe, share)`, from `start` to `close`.

    `target` reads `Order`s and sends `Progress`, `Answer` (at most one an order) and `Failure`; it ends with its pipe.
    """

    def __init__(
        self, target: Callable[[Pipe, Any], None], shares: Sequence[Any], on_progress: Callable[[Progress], None]
    ) -> None:
        self.failed: asyncio.Future[WorkerFailed] = asyncio.get_running_loop().create_future()
        """Ends when a worker fails."""
        self._target = target
        self._shares = shares
        self._on_progress = on_progress
        self._processes: list[BaseProcess] = []
        self._pipes: list[Pipe] = []
        self._readers: list[asyncio.Task[None]] = []
        self._answers: list[asyncio.Queue[Answer]] = []
        self._threads = ThreadPoolExecutor(len(shares), "pipe")

    def start(self) -> None:
        """Start the processes. They ignore Ctrl-C from their first moment: ending the run is the parent's business."""
        spawn = multiprocessing.get_context("spawn")
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for number, share in enumerate(self._shares):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=self._target, args=(theirs, share), name=f"worker {number}", daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._pipes.append(ours)
                self._answers.append(asyncio.Queue(maxsize=4))
                self._readers.append(asyncio.create_task(self._read(number), name=f"pipe of worker {number}"))
        finally:
            signal.signal(signal.SIGINT, before)

    async def _read(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                message = await loop.run_in_executor(self._threads, self._pipes[number].recv)
                if isinstance(message, Progress):
                    self._on_progress(message)
                elif isinstance(message, Answer):
                    await self._answers[number].put(message)
                else:
                    self._fail(f"worker {number} failed: {message.text}")
                    return
        except (EOFError, OSError):
            self._fail(f"worker {number} died")

    def _fail(self, text: str) -> None:
        if not self.failed.done():
            self.failed.set_result(WorkerFailed(text))

    def tell(self, name: str, body: Any = None) -> None:
        """Give the same order to all workers."""
        for pipe in self._pipes:
            try:
                pipe.send(Order(name, body))
            except OSError:
                self._fail("a worker died")

    async def answers(self, order: str) -> list[Any]:
        """The answers of all workers to this order; those to earlier ones are dropped. Raises WorkerFailed."""
        collecting = asyncio.create_task(self._collect(order))
        try:
            waits: list[asyncio.Future[Any]] = [collecting, self.failed]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self.failed.done():
                raise self.failed.result()
            return collecting.result()
        finally:
            collecting.cancel()

    async def _collect(self, order: str) -> list[Any]:
        bodies = []
        for queue in self._answers:
            while (answer := await queue.get()).order != order:
                pass
            bodies.append(answer.body)
        return bodies

    def kill(self) -> None:
        """End the workers at once; `close` is still to be called."""
        for process in self._processes:
            process.kill()

    async def close(self) -> None:
        """End the workers: by themselves within EXIT_SECONDS, else killed."""
        self.tell("end")
        _, late = await asyncio.wait(self._readers, timeout=EXIT_SECONDS) if self._readers else ((), ())
        if late:
            self.kill()
            await asyncio.wait(self._readers, timeout=EXIT_SECONDS)
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            await asyncio.to_thread(process.join, EXIT_SECONDS)
            pipe.close()
        self._threads.shutdown(wait=False)
