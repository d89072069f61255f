"""The options of the command line, and the plan that they make."""

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.chat import Plan
from loadtests.scenarios import SCENARIOS, Scenario

DEFAULT_URL = "http://127.0.0.1:3000"
TEXT_MAX = 10_000


def _at_least(least: float, kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}, or no number")
        return value

    parse.__name__ = "number"
    return parse


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https", "ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise argparse.ArgumentTypeError(f"{text!r} is no address such as {DEFAULT_URL}")
    return text


_COUNT, _NUMBER = _at_least(1, int), _at_least(0, float)
FIELDS: dict[str, tuple[Callable[[str], float], str, str]] = {
    "connections": (_COUNT, "N", "users, one connection each"),
    "rooms": (_COUNT, "R", "channels; user i is in room i mod R"),
    "senders": (_at_least(0, int), "S", "the first S users write"),
    "seconds": (_NUMBER, "T", "how long"),
    "processes": (_COUNT, "P", "driver processes"),
    "ramp": (_COUNT, "N", "handshakes at once while connecting"),
    "rate": (_NUMBER, "MSG_PER_S", "over all senders; 0: as fast as acks come"),
    "window": (_COUNT, "W", "messages under way per sender"),
    "payload": (_COUNT, "BYTES", "length of a message's text"),
    "spread": (_NUMBER, "T", "seconds within which all that were dropped come back"),
    "slow": (_NUMBER, "PERCENT", "of the users stop reading"),
    "nodes": (_at_least(2, int), "N", "nodes to compare with one"),
}
"""The plan's fields: (what parses them, what they are shown as, help)."""
EVERYWHERE = ("connections", "rooms", "processes", "ramp")


def parser() -> argparse.ArgumentParser:
    """The command line; one subcommand a scenario."""
    top = argparse.ArgumentParser(
        prog="python -m loadtests",
        description="Puts a running Parley server under load and checks what it promises.",
        epilog="Exit status: 0 clean, 1 not clean, 2 wrong usage, 3 no run, 130 interrupted before the verdict.",
    )
    scenarios = top.add_subparsers(dest="scenario", required=True, metavar="SCENARIO")
    for name, scenario in SCENARIOS.items():
        _add_options(scenarios.add_parser(name, help=scenario.summary, description=scenario.summary), scenario)
    return top


def _add_options(options: argparse.ArgumentParser, scenario: Scenario) -> None:
    defaults = asdict(scenario.defaults)
    for name in (*EVERYWHERE, *scenario.asks):
        kind, shown, text = FIELDS[name]
        value = defaults[name]
        options.add_argument(f"--{name}", type=kind, default=value, metavar=shown, help=f"{text} ({value:g})")
    if scenario.course is not None:
        options.add_argument("--url", type=_url, action="append", help=f"server, repeated for several ({DEFAULT_URL})")
        keys = options.add_mutually_exclusive_group()
        keys.add_argument("--secret", help="HS256 secret (JWT_SECRET, else DATA_DIR/jwt-secret)")
        keys.add_argument("--tokens", type=Path, metavar="FILE", help="one token a line, each of another user")
        keys.add_argument("--start-server", action="store_true", help="start a server for this run, with its stores")
    options.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options.add_argument("--plot", type=Path, metavar="FILE.png", help="draw latencies and rates over time")


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for. Raises ValueError when they contradict one another."""
    scenario = SCENARIOS[options.scenario]
    given = {name: getattr(options, name) for name in (*EVERYWHERE, *scenario.asks)}
    urls = tuple(getattr(options, "url", None) or [DEFAULT_URL])
    plan = Plan(**{**asdict(scenario.defaults), **given, "urls": urls})
    for larger, smaller in (("connections", "rooms"), ("connections", "senders"), ("connections", "processes")):
        if getattr(plan, smaller) > getattr(plan, larger):
            raise ValueError(f"--{smaller} {getattr(plan, smaller)} is more than --{larger} {getattr(plan, larger)}")
    if plan.payload > TEXT_MAX:
        raise ValueError(f"--payload {plan.payload} is more than a message's {TEXT_MAX} characters")
    if plan.senders + math.ceil(plan.connections * plan.slow / 100) > plan.connections:
        raise ValueError(f"--slow {plan.slow:g} leaves fewer users than the {plan.senders} that write")
    if options.json and not options.json.parent.is_dir():
        raise ValueError(f"--json {options.json} is in no directory that exists")
    if getattr(options, "start_server", False) and options.url:
        raise ValueError("--start-server and --url are for different servers: give one of them")
    return plan
