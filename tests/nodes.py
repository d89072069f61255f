"""Parley nodes as real processes, to be killed, stopped and started again by tests."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from auth.tokens import issue_token

ROOT = Path(__file__).resolve().parent.parent
SECRET = "a-secret-for-tests-only-that-is-long-enough"
START_SECONDS = 30.0


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def token(user_id: str, ttl_seconds: int = 3600, **claims: Any) -> str:
    """A token that test nodes accept."""
    return issue_token(user_id, secret=SECRET, ttl_seconds=ttl_seconds, now=time.time(), **claims)


class Node:
    """One server process on stores that outlive it. Its log is in `log_text()`."""

    def __init__(self, mongodb_url: str, redis_url: str, database: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = database
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JWT_")},
            "MONGODB_URL": mongodb_url,
            "REDIS_URL": redis_url,
            "MONGODB_DB": database,
            "REDIS_PREFIX": database,
            "PORT": str(self.port),
            "JWT_SECRET": SECRET,
            "LOG_LEVEL": "info",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.NamedTemporaryFile(prefix="parley-node-", suffix=".log")  # noqa: SIM115 - closed in stop

    async def start(self) -> None:
        """Start the process and wait until it serves."""
        self._process = subprocess.Popen(  # noqa: ASYNC220 - the child outlives no wait
            [sys.executable, "-m", "server"],
            cwd=ROOT,
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        async with asyncio.timeout(START_SECONDS):
            while not await self.answers("/health/liveness"):
                if self._process.poll() is not None:
                    raise AssertionError(f"the node ended with {self._process.returncode}:\n{self.log_text()}")
                await asyncio.sleep(0.05)

    async def answers(self, path: str) -> bool:
        """Whether this path answers 200 now."""
        try:
            timeout = aiohttp.ClientTimeout(total=3)
            async with aiohttp.ClientSession(timeout=timeout) as http, http.get(self.url + path) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def token(self, user_id: str, **claims: Any) -> str:
        """A token for a user of this node."""
        return token(user_id, **claims)

    async def command(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run `python -m server ARGUMENTS` on the node's stores; returns the exit status and all it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server", *arguments,
            cwd=ROOT,
            env={**self._environment, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    def kill(self) -> None:
        """`kill -9`: no goodbye, nothing flushed."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def restart(self) -> None:
        """Kill it if it runs, and start it on the same port and stores."""
        self.kill()
        await self.start()

    async def terminate(self) -> int:
        """Ask it to end (SIGTERM) and wait; returns its exit status."""
        assert self._process is not None
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, 30)

    async def stop(self) -> None:
        """End it in order, by force if it does not."""
        try:
            if self._process is not None and self._process.poll() is None:
                await self.terminate()
        finally:
            self.kill()
            self._log.close()

    def log_text(self) -> str:
        """All that the process has logged so far."""
        return Path(self._log.name).read_text(errors="replace")
