"""The load driver against a started server: its verdict and its exit status."""

import asyncio
import json
import sys
from pathlib import Path

from tests.nodes import ROOT, SECRET, Node


async def test_a_short_run_comes_out_clean(server: Node, tmp_path: Path) -> None:
    """A small chat scenario over two processes: figures in the report, nothing lost, exit status 0."""
    report = tmp_path / "report.json"
    arguments = ["chat", "--connections", "40", "--rooms", "8", "--senders", "16", "--seconds", "2", "--processes", "2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests", *arguments, "--url", server.url, "--secret", SECRET, "--json", str(report),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, progress = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (output + progress).decode()
    assert b"verdict" in output
    assert b"clean" in output
    assert json.loads(report.read_text())


async def test_no_server_is_said_plainly() -> None:
    """Against a port where nothing listens the driver says so, with a status of its own."""
    arguments = [
        "chat",
        "--connections",
        "2",
        "--rooms",
        "1",
        "--senders",
        "1",
        "--seconds",
        "1",
        "--url",
        "http://127.0.0.1:9",
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests", *arguments, "--secret", SECRET,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, progress = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 3
    assert b"127.0.0.1:9" in output + progress
