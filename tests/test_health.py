"""Health, metrics and the page's tokens, as load balancers, scrapers and visitors see them."""

from collections.abc import Callable
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.clients.user import ok, refused
from tests.nodes import Node


async def get(url: str, **headers: str) -> tuple[int, aiohttp.ClientResponse, bytes]:
    """One GET: status, response, body."""
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        return response.status, response, await response.read()


async def test_a_healthy_node_says_so(server: Node) -> None:
    """Liveness is plain; readiness names both stores with their latency."""
    status, response, _ = await get(f"{server.url}/health/liveness")
    assert (status, await response.json()) == (200, {"status": "ok"})
    for path in ("/health", "/health/readiness"):
        status, response, _ = await get(server.url + path)
        health = await response.json()
        assert (status, health["status"], health["degraded"]) == (200, "ok", [])
        assert {name: check["status"] for name, check in health["checks"].items()} == {"mongodb": "ok", "redis": "ok"}
        assert all(check["latencyMs"] > 0 for check in health["checks"].values())


async def test_metrics_count_what_happens(
    server: Node, connect: Callable[..., Any], user_id: Callable[[str], str]
) -> None:
    """Connections, handshakes and events by outcome, ack latency, commit batches, in Prometheus' format."""
    alice = await connect(server, user_id("alice"))
    room_id = (await ok(alice, "room:create", {"kind": "group"}))["room"]["roomId"]
    await ok(alice, "message:send", {"roomId": room_id, "text": "counted"})
    await refused(alice, "message:send", {"roomId": room_id})
    await refused(alice, "made:up", {})

    _, response, body = await get(f"{server.url}/health/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["parley_connections",] >= 1
    assert samples["parley_handshakes_total", "ok"] >= 1
    assert samples["parley_events_total", "message:send", "ok"] >= 1
    assert samples["parley_events_total", "VALIDATION_ERROR", "message:send"] >= 1
    assert samples["parley_events_total", "UNKNOWN_EVENT", "unknown"] >= 1
    assert samples["parley_ack_seconds_count", "message:send"] >= 2
    assert samples["parley_commit_batch_messages_count",] >= 1
    assert samples["parley_loop_lag_seconds_count",] >= 1
    assert samples["parley_bus_connected",] == 1
    assert "made:up" not in body.decode()


async def test_nothing_secret_is_logged(
    server: Node, connect: Callable[..., Any], user_id: Callable[[str], str]
) -> None:
    """Neither tokens nor message texts stand in the log, also not after refused and broken input."""
    alice = await connect(server, user_id("alice"))
    room_id = (await ok(alice, "room:create", {"kind": "group"}))["room"]["roomId"]
    await ok(alice, "message:send", {"roomId": room_id, "text": "a-secret-text"})
    await refused(alice, "message:send", {"roomId": room_id, "text": {"a-secret-text": 1}})
    log = server.log_text()
    assert "listening" in log
    assert "a-secret-text" not in log
    assert server.token(alice.user_id).split(".")[0] not in "".join(
        line for line in log.splitlines() if "token of" not in line
    )
