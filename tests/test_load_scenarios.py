"""The load scenarios, small, against real servers: their counts, their pictures, and Locust."""

import asyncio
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from loadtests.chat import Plan
from loadtests.cluster import compare_nodes
from loadtests.report import figures
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


async def test_fanout_reaches_all_but_the_sender(server: Node, tmp_path: Path) -> None:
    """In one room of 24 each message is delivered 23 times."""
    run = await _run(tmp_path, server.url, "fanout", "--connections", "24", "--seconds", "1")
    assert run.status == 0, run.text
    assert run.figures["delivered"] == 23 * run.figures["acked"] > 0


async def test_idle_clients_cost_memory(server: Node, tmp_path: Path) -> None:
    """Nobody writes; everybody stays connected; the server's own figures are read."""
    run = await _run(tmp_path, server.url, "idle", *SMALL, "--seconds", "1")
    assert run.status == 0, run.text
    assert (run.figures["connected"], run.figures["sent"]) == (24, 0)
    assert "kibPerClient" in run.figures
    assert run.figures["idleCpuPercent"] >= 0


async def test_a_storm_passes_and_nothing_is_lost(server: Node, tmp_path: Path) -> None:
    """All drop, all come back, each once; what was written meanwhile reaches everybody."""
    options = ["--senders", "4", "--rate", "20", "--seconds", "2", "--spread", "0.5", "--processes", "2"]
    run = await _run(tmp_path, server.url, "storm", *SMALL, *options)
    assert run.status == 0, run.text
    assert run.figures["dropped"] == run.figures["served"] == run.figures["reconnects"] == 24
    assert run.figures["stormErrors"] == run.figures["shed"] == 0
    assert run.figures["acked"] == run.figures["sent"] > 0


async def test_slow_clients_catch_up_in_the_end(server: Node, tmp_path: Path) -> None:
    """A tenth stop reading for a second; the others' latencies are told apart, and in the end nobody lacks a message."""
    options = ["--senders", "4", "--rate", "40", "--payload", "2000", "--seconds", "1", "--slow", "10"]
    run = await _run(tmp_path, server.url, "slow", *SMALL, *options)
    assert run.status == 0, run.text
    assert run.figures["stalled"] == 3
    assert run.figures["deliveryP99MsQuiet"] > 0 < run.figures["deliveryP99MsSlow"]
    assert run.figures["memoryPeak"] > 0


async def test_disconnects_are_settled(server: Node, tmp_path: Path) -> None:
    """All leave at once, and the server counts none of them any more."""
    run = await _run(tmp_path, server.url, "disconnects", *SMALL)
    assert run.status == 0, run.text
    assert run.figures["connected"] == 24
    assert run.figures["timeline"][-1]["open"] == 0
    assert "settledSeconds" in run.figures


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
    """--plot writes a PNG of the run."""
    _need("matplotlib")
    picture = tmp_path / "run.png"
    run = await _run(tmp_path, server.url, "chat", *SMALL, "--senders", "4", "--seconds", "1", "--plot", str(picture))
    assert run.status == 0, run.text
    assert picture.read_bytes().startswith(PNG)


async def test_locust_runs_headless(server: Node, tmp_path: Path) -> None:
    """Six users talk for two seconds under Locust: connects, acks and deliveries are in its table, none failed."""
    _need("locust")
    options = ["--headless", "--users", "6", "--spawn-rate", "6", "--run-time", "2s", "--rooms", "2", "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", *options, "--host", server.url,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "JWT_SECRET": SECRET},
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    rows = {row["name"]: row for row in json.loads(output)}
    assert set(rows) == {"connect", "message:send", "message:received"}
    assert rows["connect"]["num_requests"] == 6
    assert not any(row["num_failures"] for row in rows.values())
