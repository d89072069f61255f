"""A run as a picture: latencies, rates and connections over time."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from loadtests.timeline import Second

WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 10, 8, 120


class NoPlot(Exception):
    """There can be no picture; the message says what to do."""


def check_plot(path: Path) -> None:
    """See before a long run whether its picture can be made. Raises NoPlot."""
    if find_spec("matplotlib") is None:
        raise NoPlot("--plot needs matplotlib, which is not installed: `make load` installs it")
    if path.suffix != ".png":
        raise NoPlot(f"--plot {path} does not end in .png")
    if not path.parent.is_dir():
        raise NoPlot(f"--plot {path} is in no directory that exists")


def write_plot(path: Path, title: str, seconds: Sequence[Second]) -> None:
    """Write a PNG of the run. Raises OSError."""
    # Imported here, because most runs want no picture and matplotlib takes a second to load.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    latency, rate, people = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    at = [second.at for second in seconds]
    for name, style in (("delivery_p50", "C0-"), ("delivery_p99", "C0:"), ("ack_p50", "C1-"), ("ack_p99", "C1:")):
        # A second without messages has no latency; a gap says so, where a zero would lie.
        values = [getattr(second, name) or float("nan") for second in seconds]
        latency.plot(at, values, style, label=name.replace("_", " "))
    latency.set_yscale("log")
    latency.set_ylabel("latency, ms")
    rate.plot(at, [second.delivered for second in seconds], "C0-", label="delivered/s")
    rate.plot(at, [second.acked for second in seconds], "C1-", label="acked/s")
    rate.plot(at, [second.errors for second in seconds], "C3-", label="errors/s")
    rate.set_ylabel("per second")
    people.plot(at, [second.open for second in seconds], "C2-", label="open connections")
    people.set_xlabel("seconds")
    for axes in (latency, rate, people):
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="upper left", fontsize="small")
        for begin in _phase_begins(seconds):
            axes.axvline(begin.at, color="0.6", linewidth=0.8)
    for begin in _phase_begins(seconds):
        latency.text(
            begin.at, 1.01, begin.phase, transform=latency.get_xaxis_transform(), fontsize="small", rotation=30
        )
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, format="png", dpi=DOTS_PER_INCH)


def _phase_begins(seconds: Sequence[Second]) -> list[Second]:
    return [next(group) for _, group in groupby(seconds, key=lambda second: second.phase)]
