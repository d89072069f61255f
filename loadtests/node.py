"""A Parley server process of our own, for measurements that bring their server along."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import aiohttp

READY_SECONDS = 60.0
"""The first start makes a database."""
STOP_SECONDS = 30.0
POLL_SECONDS = 0.1
LOG_TAIL_CHARACTERS = 2_000


class NodeFailed(Exception):
    """The server did not start; the message has the end of what it said."""


@asynccontextmanager
async def running_node(data_dir: Path, secret: str, **stores: str) -> AsyncIterator[str]:
    """The URL of a server without rate limits; stopped at the end.

    Its stores are embedded ones in `data_dir`, unless `stores` has other settings: MONGODB_URL=…, REDIS_URL=….

    Raises NodeFailed.
    """
    port = _free_port()
    log_path = data_dir / "server.log"
    with _open_log(log_path) as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server"),
            env=_environment(data_dir, port, secret) | stores,
            stdout=log,
            stderr=log,
            # Ctrl-C is for the driver, which then stops the server in order.
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        if not await _gets_ready(url, process):
            raise NodeFailed(f"the server did not get ready within {READY_SECONDS:.0f} s; it said:\n{_tail(log_path)}")
        yield url
    finally:
        await _stop(process)


def _environment(data_dir: Path, port: int, secret: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in ("MONGODB_URL", "REDIS_URL", "WORKERS")}
    settings = {"DATA_DIR": str(data_dir), "HOST": "127.0.0.1", "PORT": str(port), "JWT_SECRET": secret}
    return own | settings | {"RATE_LIMITS": "off", "LOG_LEVEL": "warning", "ENVIRONMENT": "development"}


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _tail(path: Path) -> str:
    return path.read_text("utf-8", "replace")[-LOG_TAIL_CHARACTERS:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _gets_ready(url: str, process: asyncio.subprocess.Process) -> bool:
    """Whether it answers in time; False at once when it has ended."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while process.returncode is None:
                    with suppress(aiohttp.ClientError, TimeoutError):
                        async with session.get(f"{url}/health/readiness") as answer:
                            if answer.status == 200:
                                return True
                    await asyncio.sleep(POLL_SECONDS)
    return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
