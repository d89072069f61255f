"""Health and metrics for load balancers and operators (wire contract, section 7)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from realtime.cluster import Cluster
from server.telemetry import Metrics
from storage.mongo import Mongo

PROBE_SECONDS: Final = 2.0


def setup_health(app: web.Application, *, mongo: Mongo, cluster: Cluster, metrics: Metrics) -> None:
    """Add /health, /health/liveness, /health/readiness and /health/metrics."""

    async def liveness(request: web.Request) -> web.Response:
        """200 while the loop turns; touches nothing else."""
        return web.json_response({"status": "ok"})

    async def readiness(request: web.Request) -> web.Response:
        """503 without MongoDB; 200 and `degraded` without Redis, for messages are still kept and acknowledged."""
        mongodb, redis = await asyncio.gather(_probe(mongo.ping), _probe(cluster.ping))
        ready = mongodb["status"] == "ok"
        degraded = [] if redis["status"] == "ok" and cluster.connected else ["redis"]
        status = "unavailable" if not ready else "degraded" if degraded else "ok"
        body = {"status": status, "degraded": degraded, "checks": {"mongodb": mongodb, "redis": redis}}
        return web.json_response(body, status=200 if ready else 503)

    async def exposition(request: web.Request) -> web.Response:
        """Prometheus text format."""
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/health", readiness)
    app.router.add_get("/health/liveness", liveness)
    app.router.add_get("/health/readiness", readiness)
    app.router.add_get("/health/metrics", exposition)


async def _probe(ping: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    """One dependency's state and latency; never its address or its error text."""
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await ping()
    except Exception as error:
        return {"status": "unreachable", "reason": type(error).__name__}
    return {"status": "ok", "latencyMs": round((time.perf_counter() - started) * 1000, 2)}
