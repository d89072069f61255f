"""The load scenarios, small, against real servers: their counts, their pictures, and Locust."""

import asyncio
import importlib.util
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from loadtests.chat import Plan
from loadtests.client import CallFailed, Connection
from loadtests.cluster import compare_nodes
from loadtests.recovery import Session
from loadtests.report import figures
from loadtests.scenarios import SCENARIOS, run_scenario
from server.embedded import EmbeddedServers
from tests.nodes import ROOT, SECRET, Node

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = ["--connections", "24", "--rooms", "4"]


class Run(NamedTuple):
    """What a run of the driver left behind: its exit status, all it printed, the figures of --json."""

    status: int
    text: str
    figures: dict[str, Any]


async def _run(tmp_path: Path, url: str, *arguments: str, interrupt_at: bytes = b"") -> Run:
    """Run the driver; with `interrupt_at`, press Ctrl-C when its progress has these words."""
    report = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests", *arguments, "--url", url, "--secret", SECRET, "--json", str(report),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(60):
        progress = await process.stderr.readuntil(interrupt_at) if interrupt_at else b""
        if interrupt_at:
            process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
    text = (output + progress + errors).decode()
    return Run(process.returncode or 0, text, json.loads(report.read_text()) if report.exists() else {})


async def _figures(server: Node, name: str, **plan: Any) -> dict[str, Any]:
    """Run a scenario from here, as clean as it must be; returns its figures."""
    scenario = SCENARIOS[name]
    small = replace(scenario.defaults, **{"connections": 24, "rooms": 4, "urls": (server.url,), **plan})
    outcome = await run_scenario(scenario, small, lambda names: [server.token(user) for user in names])
    assert outcome.verdict is not None
    assert outcome.verdict.clean, outcome.verdict.examples
    return figures(outcome)


async def test_fanout_reaches_all_but_the_sender(server: Node) -> None:
    """In one room of 24 each message is delivered 23 times."""
    values = await _figures(server, "fanout", rooms=1, seconds=0.5)
    assert values["delivered"] == 23 * values["acked"] > 0


async def test_idle_clients_are_weighed(server: Node) -> None:
    """Nobody writes; everybody stays connected; the server's own figures are read."""
    values = await _figures(server, "idle", seconds=0.5)
    assert (values["connected"], values["sent"]) == (24, 0)
    assert "kibPerClient" in values
    assert values["idleCpuPercent"] >= 0


async def test_slow_clients_catch_up_in_the_end(server: Node) -> None:
    """A tenth stop reading; the others' latencies are told apart, and in the end nobody lacks a message."""
    values = await _figures(server, "slow", rooms=4, senders=4, rate=40, payload=2000, seconds=0.7, slow=10)
    assert values["stalled"] == 3
    assert values["deliveryP99MsQuiet"] > 0 < values["deliveryP99MsSlow"]
    assert values["memoryPeak"] > 0


async def test_disconnects_are_settled(server: Node) -> None:
    """All leave at once, and the server counts none of them any more."""
    values = await _figures(server, "disconnects", processes=1)
    assert values["connected"] == 24
    assert values["timeline"][-1]["open"] == 0
    assert "settledSeconds" in values


async def test_a_storm_passes_and_nothing_is_lost(server: Node, tmp_path: Path) -> None:
    """All drop, all come back, each once; what was written meanwhile reaches everybody."""
    options = ["--senders", "4", "--rate", "20", "--seconds", "1", "--spread", "0.3"]
    run = await _run(tmp_path, server.url, "storm", *SMALL, *options)
    assert run.status == 0, run.text
    assert run.figures["dropped"] == run.figures["served"] == run.figures["reconnects"] == 24
    assert run.figures["stormErrors"] == run.figures["shed"] == 0
    assert run.figures["acked"] == run.figures["sent"] > 0


async def test_cluster_compares_one_node_with_two(stores: EmbeddedServers, tmp_path: Path) -> None:
    """On one node and on two the same messages reach the same people, and a delivery's cost is known for both."""
    plan = Plan(connections=12, rooms=3, senders=3, seconds=1, rate=30, window=16)
    outcome = await compare_nodes(plan, tmp_path, stores.mongodb_url, stores.redis_url)
    assert outcome.verdict is not None
    assert outcome.verdict.clean, outcome.verdict.examples
    values = figures(outcome)
    assert len(values["plan"]["urls"]) == 2
    assert values["delivered"] == 3 * values["acked"] > 0
    assert values["nodesCpuRatio"] > 0


async def test_ctrl_c_prints_what_was_measured(server: Node, tmp_path: Path) -> None:
    """Interrupted while it writes, a run settles, judges and prints its table."""
    arguments = ["storm", *SMALL, "--senders", "4", "--rate", "20", "--seconds", "600"]
    run = await _run(tmp_path, server.url, *arguments, interrupt_at=b"sending")
    assert run.status == 0, run.text
    assert "ended early" in run.text
    assert run.figures["interrupted"] is True
    assert run.figures["acked"] == run.figures["sent"]


def _need(package: str) -> None:
    """Skip, with one line of reason, where the packages of load tests are not installed."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is missing: `make load` installs it")


async def test_a_plot_is_a_picture(server: Node, tmp_path: Path) -> None:
    """--plot leaves a PNG of the run."""
    _need("matplotlib")
    picture = tmp_path / "run.png"
    run = await _run(tmp_path, server.url, "idle", *SMALL, "--seconds", "0.3", "--plot", str(picture))
    assert run.status == 0, run.text
    assert picture.read_bytes().startswith(PNG)


async def test_locust_runs_headless(server: Node) -> None:
    """Six users talk under Locust until something was said: connects, acks and deliveries are counted, none failed."""
    _need("locust")
    said = await _acked_sends(server)
    options = ["--headless", "--users", "6", "--spawn-rate", "6", "--rooms", "2", "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", *options, "--host", server.url,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "JWT_SECRET": SECRET},
    )  # fmt: skip
    async with asyncio.timeout(60):
        while process.returncode is None and await _acked_sends(server) < said + 12:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
        with suppress(ProcessLookupError):
            process.terminate()
        output, _ = await process.communicate()
    assert process.returncode == 0
    rows = {row["name"]: row for row in json.loads(output)}
    assert set(rows) == {"connect", "message:send", "message:received"}
    assert rows["connect"]["num_requests"] == 6
    assert not any(row["num_failures"] for row in rows.values())


async def _acked_sends(server: Node) -> float:
    """How many messages the server has acknowledged in all."""
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/health/metrics") as answer:
        text = await answer.text()
    row = re.search(r'parley_events_total{event="message:send",outcome="ok"} (.+)', text)
    return float(row[1]) if row else 0.0


# --- coming back ------------------------------------------------------------------------------------------------------


class _Gate:
    """A websocket server that speaks just enough Socket.IO to play what a node may answer; `seen` has each CONNECT."""

    def __init__(self, answers: list[dict[str, str]]) -> None:
        self.seen: list[dict[str, Any]] = []
        self._answers = answers
        self._refusals = 1

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Refuse once, then open, answer CONNECT with the next ids, greet, and send an event with an offset."""
        if self._refusals:
            self._refusals -= 1
            body = {"code": "SERVER_BUSY", "retryAfterMs": 250}
            return web.json_response(body, status=503, headers={"Retry-After": "1"})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(
            '0{"sid":"e","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
        )
        self.seen.append(json.loads((await socket.receive_str())[2:]))
        await socket.send_str("40" + json.dumps(self._answers.pop(0)))
        await socket.send_str(f'42["member:joined",{{}},"offset-{len(self.seen)}"]')
        await socket.send_str('42["session:ready",{"rooms":[]}]')
        await socket.receive()
        return socket


async def test_a_connection_comes_back_as_the_stock_client_does() -> None:
    """A 503 says when to come again; pid and last offset go into the next CONNECT; the old ids mean recovered."""
    gate = _Gate([{"sid": "s1", "pid": "p1"}, {"sid": "s1", "pid": "p1"}, {"sid": "s2", "pid": "p2"}, {"sid": "s3"}])
    async with _serving(gate) as url:
        with pytest.raises(CallFailed, match="SERVER_BUSY") as refusal:
            await Connection.open(url, "t", _Deaf())
        assert (refusal.value.retryable, refusal.value.retry_after) == (True, 0.25)
        connections: list[Connection] = []
        session: Session | None = None
        for _ in range(4):
            connections.append(await Connection.open(url, "t", _Deaf(), session))
            session = connections[-1].session
            connections[-1].close()
        assert [connection.recovered for connection in connections] == [False, True, False, False]
        assert gate.seen == [
            {"token": "t"},
            {"token": "t", "pid": "p1", "offset": "offset-1"},
            {"token": "t", "pid": "p1", "offset": "offset-2"},
            {"token": "t", "pid": "p2", "offset": "offset-3"},
        ]
        assert session is None


class _Deaf:
    def on_message(self, message: dict[str, Any]) -> None:
        """Nothing."""


@asynccontextmanager
async def _serving(gate: _Gate) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/socket.io/", gate.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
