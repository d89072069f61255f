"""The cluster scenario: the same load on one node and on several of its own, and what a delivery costs on each."""

import secrets
import tempfile
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from loadtests.chat import Outcome, Plan, new_run, run_chat, user_ids
from loadtests.node import running_node
from loadtests.report import Live, figures
from loadtests.stage import Finding
from loadtests.tokens import sign_tokens


async def run_cluster(plan: Plan) -> Outcome:
    """The outcome of the run on `plan.nodes` nodes, with the comparison; of that on one node when it was cut short.

    Raises EmbeddedError, NodeFailed, CallFailed or WorkerFailed.
    """
    # Imported here, or every worker of every scenario would load two database drivers.
    from server.embedded import EmbeddedServers

    with tempfile.TemporaryDirectory(prefix="parley-cluster-") as scratch:
        stores = EmbeddedServers(Path(scratch, "stores"), mongodb=True, redis=True)
        await stores.start()
        try:
            return await compare_nodes(plan, Path(scratch), stores.mongodb_url, stores.redis_url)
        finally:
            await stores.stop()


async def compare_nodes(plan: Plan, scratch: Path, mongodb_url: str, redis_url: str) -> Outcome:
    """As `run_cluster`, on stores that are there already, in databases of its own; logs go to `scratch`."""
    alone = await _run_on(1, plan, scratch, mongodb_url, redis_url)
    if alone.interrupted:
        return alone
    together = await _run_on(plan.nodes, plan, scratch, mongodb_url, redis_url)
    one, several = (figures(outcome).get("cpuMicrosPerDelivery", 0.0) for outcome in (alone, together))
    if one and several:
        together.findings += [
            Finding("oneNodeCpuMicros", "1 node, µs", one, "CPU a delivery"),
            Finding("nodesCpuMicros", f"{plan.nodes} nodes, µs", several, "CPU a delivery, of all nodes together"),
            Finding("nodesCpuRatio", "ratio", several / one, "of the two"),
        ]
    if alone.verdict is not None and together.verdict is not None:
        for kind, count in alone.verdict.breaches.items():
            together.verdict.add(kind, [f"on one node: {text}" for text in alone.verdict.examples.get(kind, [])], count)
    return together


async def _run_on(nodes: int, plan: Plan, scratch: Path, mongodb_url: str, redis_url: str) -> Outcome:
    secret, run = secrets.token_hex(32), new_run()
    name = f"load_{run}_{nodes}"
    stores = {"MONGODB_URL": mongodb_url, "REDIS_URL": redis_url, "MONGODB_DB": name, "REDIS_PREFIX": name}
    async with AsyncExitStack() as running:
        live = Live(plan.connections)
        running.callback(live.end)
        live.say(f"starting {nodes} node" + "s" * (nodes > 1))
        urls = [
            await running.enter_async_context(running_node(scratch / f"{name}_{number}", secret, **stores))
            for number in range(nodes)
        ]
        plan = replace(plan, urls=tuple(urls), nodes=nodes, apart=True)
        return await run_chat(plan, run, sign_tokens(user_ids(run, plan), secret), live)
