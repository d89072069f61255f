"""The command line of the load driver: `python -m loadtests SCENARIO …`.

Exit status: 0 a clean verdict, 1 one that is not, 2 wrong usage, 3 the run could not take place, 130 interrupted
before there was anything to judge.
"""

import argparse
import json
import sys
from collections.abc import Sequence

import uvloop

from loadtests.chat import Plan
from loadtests.client import CallFailed
from loadtests.node import NodeFailed
from loadtests.options import parser, plan_of
from loadtests.plot import NoPlot, check_plot, write_plot
from loadtests.pool import WorkerFailed
from loadtests.report import figures, table
from loadtests.scenarios import SCENARIOS, Sign, run_scenario
from loadtests.tokens import NoTokens, find_secret, read_tokens, sign_tokens
from server.processes import EmbeddedError

CLEAN, NOT_CLEAN, USAGE, NO_RUN, INTERRUPTED = 0, 1, 2, 3, 130


def run(options: argparse.Namespace, plan: Plan) -> int:
    """Run the scenario, print its table, write what else is asked for; returns the exit status."""
    if options.plot:
        check_plot(options.plot)
    outcome = uvloop.run(run_scenario(SCENARIOS[options.scenario], plan, _sign(options)))
    print(table(outcome))
    if options.json:
        options.json.write_text(json.dumps(figures(outcome), indent=2) + "\n", "utf-8")
    if options.plot:
        title = f"{options.scenario}: {plan.connections:,} connections, {plan.rooms:,} rooms, {plan.senders:,} senders"
        write_plot(options.plot, title, outcome.timeline.seconds())
    if outcome.verdict is None:
        return INTERRUPTED
    return CLEAN if outcome.verdict.clean else NOT_CLEAN


def _sign(options: argparse.Namespace) -> Sign | None:
    """What makes tokens for the server that is there; None where the driver starts its own. Raises NoTokens."""
    if SCENARIOS[options.scenario].course is None or options.start_server:
        return None
    if options.tokens:
        return lambda names: read_tokens(options.tokens, len(names))
    secret = find_secret(options.secret)
    return lambda names: sign_tokens(names, secret)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, explain; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        plan = plan_of(options)
        return run(options, plan)
    except (ValueError, NoTokens, NoPlot) as fault:
        print(f"loadtests: {fault}", file=sys.stderr)
        return USAGE
    except CallFailed as failure:
        print(f"loadtests: no run against {' '.join(plan.urls)}: {failure}{_advice(failure)}", file=sys.stderr)
    except (WorkerFailed, NodeFailed, EmbeddedError) as failure:
        print(f"loadtests: {failure}", file=sys.stderr)
    except KeyboardInterrupt:
        print("loadtests: interrupted", file=sys.stderr)
        return INTERRUPTED
    return NO_RUN


def _advice(failure: CallFailed) -> str:
    if failure.code == "UNREACHABLE":
        return "\nStart a server first (`make run`), name another with --url, or add --start-server."
    if failure.code.startswith("TOKEN_"):
        return "\nThe tokens are not for this server: give its secret with --secret, or tokens with --tokens."
    return ""


if __name__ == "__main__":
    sys.exit(main())
