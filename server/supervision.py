"""A server process under supervision: started on a port of its own, watched, started again when it dies."""

import abc
import asyncio
import contextlib
from pathlib import Path
from typing import ClassVar

import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from server.processes import ChildProcess, EmbeddedError, accepts, choose_port, find_program, port_was_taken

READY_SECONDS = 60.0
"""How long a start may take: recovery after a crash replays the journal first."""
POLL_SECONDS = 0.025
PORT_ATTEMPTS = 3
RESTART_FIRST_SECONDS = 0.5
RESTART_LAST_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class SupervisedServer(abc.ABC):
    """One supervised server: started, watched and restarted by a task that it owns, stopped with it."""

    NAME: ClassVar[str]
    PROGRAMS: ClassVar[tuple[str, ...]]
    WHEEL: ClassVar[str]
    PATTERN: ClassVar[str]
    OLDEST: ClassVar[tuple[int, ...]]
    STOP_SECONDS: ClassVar[float]

    def __init__(self, data_dir: Path) -> None:
        self._home = data_dir / self.NAME
        self._log_path = data_dir / f"{self.NAME}.log"
        self._keep_open = -1
        self._program = Path()
        self._child: ChildProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.port: int | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self._child else None

    @abc.abstractmethod
    def _arguments(self, port: int) -> list[str]:
        """The command line after the program."""

    @abc.abstractmethod
    async def _serves(self, port: int) -> bool:
        """One look at whether it serves by now; what its client raises meanwhile counts as no."""

    async def start(self, last_port: int | None, keep_open: int) -> int:
        """Start it, on the port of last time if that is free, and return the port. Raises EmbeddedError."""
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._keep_open = keep_open
        self._program = await find_program(self.PROGRAMS, self.WHEEL, self.PATTERN, self.OLDEST)
        for attempt in range(PORT_ATTEMPTS):
            port = choose_port(last_port if attempt == 0 else None)
            try:
                await self._launch(port)
                break
            except EmbeddedError:
                # Another program was faster than we were between the choice and the bind.
                if self._child is None or not port_was_taken(self._child.last_words()) or attempt + 1 == PORT_ATTEMPTS:
                    raise
        self.port = port
        self._supervisor = asyncio.create_task(self._supervise(port), name=f"supervise {self.NAME}")
        return port

    async def stop(self) -> None:
        """End the supervision, then the server; it is killed when it does not end in time. Idempotent."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        if self._child is not None:
            await self._child.stop(self.STOP_SECONDS)

    async def _launch(self, port: int) -> None:
        """Start the process and wait until it serves. Raises EmbeddedError when it ends first or takes too long."""
        self._child = child = ChildProcess(
            [str(self._program), *self._arguments(port)], self._log_path, self._keep_open
        )
        await child.start()
        ended = asyncio.create_task(child.wait())
        ready = asyncio.create_task(self._wait_until_it_serves(port))
        try:
            await asyncio.wait({ended, ready}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise EmbeddedError(child.explain_exit(ended.result()))
            if not ready.done():
                await child.stop(self.STOP_SECONDS)
                raise EmbeddedError(f"{self.NAME} does not serve after {READY_SECONDS:.0f} s, see {self._log_path}")
            ready.result()
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.wait({ended, ready})

    async def _wait_until_it_serves(self, port: int) -> None:
        while True:
            # A client is made only for a port that answers: drivers wait half a second between two tries.
            if await accepts(port):
                with contextlib.suppress(PyMongoError, RedisError, OSError):
                    if await self._serves(port):
                        return
            await asyncio.sleep(POLL_SECONDS)

    async def _supervise(self, port: int) -> None:
        """Start it again whenever it ends: after 0.5 s, then doubling to 10 s, from the front once it has stayed up."""
        loop = asyncio.get_running_loop()
        pause = RESTART_FIRST_SECONDS
        while self._child is not None:
            since = loop.time()
            status = await self._child.wait()
            if loop.time() - since > RESTART_LAST_SECONDS:
                pause = RESTART_FIRST_SECONDS
            _log.warning("embedded server ended, restarting", server=self.NAME, status=status, pause_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_LAST_SECONDS)
            try:
                await self._launch(port)
                _log.info("embedded server restarted", server=self.NAME, port=port)
            except EmbeddedError as error:
                _log.error("embedded server did not restart", server=self.NAME, reason=str(error))
            except Exception:
                _log.exception("embedded server did not restart", server=self.NAME)
