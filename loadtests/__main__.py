"""The command line of the load driver: `python -m loadtests SCENARIO …`.

Exit status: 0 a clean verdict, 1 one that is not, 2 wrong usage, 3 the run could not take place, 130 interrupted
before there was anything to judge.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from loadtests.chat import Plan, new_run, run_chat, user_ids
from loadtests.client import CallFailed
from loadtests.pool import WorkerFailed
from loadtests.report import Live, figures, table
from loadtests.tokens import NoTokens, find_secret, read_tokens, sign_tokens

CLEAN, NOT_CLEAN, USAGE, NO_RUN, INTERRUPTED = 0, 1, 2, 3, 130
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


def parser() -> argparse.ArgumentParser:
    """The command line; one subcommand a scenario."""
    top = argparse.ArgumentParser(
        prog="python -m loadtests",
        description="Puts a running Parley server under load and checks what it promises.",
        epilog="Exit status: 0 clean, 1 not clean, 2 wrong usage, 3 no run, 130 interrupted before the verdict.",
    )
    scenarios = top.add_subparsers(dest="scenario", required=True, metavar="SCENARIO")
    for name, (text, add_options, _) in SCENARIOS.items():
        add_options(scenarios.add_parser(name, help=text, description=text))
    return top


def _add_chat_options(chat: argparse.ArgumentParser) -> None:
    count, number = _at_least(1, int), _at_least(0, float)
    chat.add_argument("--connections", type=count, required=True, metavar="N", help="users, one connection each")
    chat.add_argument("--rooms", type=count, required=True, metavar="R", help="channels; user i is in room i mod R")
    chat.add_argument("--senders", type=_at_least(0, int), required=True, metavar="S", help="the first S users write")
    chat.add_argument("--seconds", type=number, default=10.0, metavar="T", help="how long to write (10)")
    chat.add_argument("--processes", type=count, default=1, metavar="P", help="driver processes (1)")
    chat.add_argument("--url", type=_url, action="append", help=f"server, repeated for several nodes ({DEFAULT_URL})")
    chat.add_argument(
        "--rate", type=number, default=0.0, metavar="MSG_PER_S", help="over all senders (as fast as acks come)"
    )
    chat.add_argument("--window", type=count, default=1, metavar="W", help="messages under way per sender (1)")
    chat.add_argument("--payload", type=count, default=64, metavar="BYTES", help="length of a message's text (64)")
    chat.add_argument("--ramp", type=count, default=100, help="handshakes at once (100)")
    keys = chat.add_mutually_exclusive_group()
    keys.add_argument("--secret", help="HS256 secret (JWT_SECRET, else DATA_DIR/jwt-secret)")
    keys.add_argument("--tokens", type=Path, metavar="FILE", help="one token a line, each of another user")
    chat.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for. Raises ValueError when they contradict one another."""
    for larger, smaller in (("connections", "rooms"), ("connections", "senders"), ("connections", "processes")):
        if getattr(options, smaller) > getattr(options, larger):
            raise ValueError(
                f"--{smaller} {getattr(options, smaller)} is more than --{larger} {getattr(options, larger)}"
            )
    if options.payload > TEXT_MAX:
        raise ValueError(f"--payload {options.payload} is more than a message's {TEXT_MAX} characters")
    if options.json and not options.json.parent.is_dir():
        raise ValueError(f"--json {options.json} is in no directory that exists")
    names = Plan.__slots__
    given = {name: getattr(options, name) for name in names if name != "urls"}
    return Plan(**given, urls=tuple(options.url or [DEFAULT_URL]))


def chat(options: argparse.Namespace) -> int:
    """Run the chat scenario and print its table; returns the exit status."""
    plan, run = plan_of(options), new_run()
    names = user_ids(run, plan)
    tokens = (
        read_tokens(options.tokens, len(names)) if options.tokens else sign_tokens(names, find_secret(options.secret))
    )
    live = Live(plan.connections)
    try:
        outcome = uvloop.run(run_chat(plan, run, tokens, live))
    finally:
        live.end()
    print(table(outcome))
    if options.json:
        options.json.write_text(json.dumps(figures(outcome), indent=2) + "\n", "utf-8")
    if outcome.verdict is None:
        return INTERRUPTED
    return CLEAN if outcome.verdict.clean else NOT_CLEAN


SCENARIOS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]] = {
    "chat": ("users in rooms, some of them writing", _add_chat_options, chat),
}
"""name: (what it is, its options, what runs it)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, explain; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        return SCENARIOS[options.scenario][2](options)
    except (ValueError, NoTokens) as fault:
        print(f"loadtests: {fault}", file=sys.stderr)
        return USAGE
    except CallFailed as failure:
        where = " ".join(options.url or [DEFAULT_URL])
        print(f"loadtests: no run against {where}: {failure}", file=sys.stderr)
    except WorkerFailed as failure:
        print(f"loadtests: {failure}", file=sys.stderr)
    except KeyboardInterrupt:
        print("loadtests: interrupted", file=sys.stderr)
        return INTERRUPTED
    return NO_RUN


if __name__ == "__main__":
    sys.exit(main())
