"""Logs and metrics: what the operator sees."""

import logging
import sys
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BATCH_MESSAGES = (1, 2, 4, 8, 16, 32, 64, 128)


def configure_logging(level: str, environment: str) -> None:
    """Structured logs on standard error: JSON lines in production, readable ones in development.

    Log calls carry a static message and fields; tokens and message texts are never among them.
    """
    threshold = getattr(logging, level.upper())
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if environment == "production"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if environment == "production":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(threshold, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )


class Answers(Collector):
    """Counts of client events and the time to their answers.

    Kept as plain numbers and put into the library's form when somebody asks: its own counters cost each event 4 µs.
    """

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str], int] = {}
        self._seconds: dict[str, float] = {}
        self._buckets: dict[str, list[int]] = {}

    def __call__(self, event: str, outcome: str, seconds: float) -> None:
        """Count one event and the time to its answer."""
        key = (event, outcome)
        self._outcomes[key] = self._outcomes.get(key, 0) + 1
        buckets = self._buckets.get(event)
        if buckets is None:
            buckets = self._buckets[event] = [0] * (len(LATENCY_SECONDS) + 1)
            self._seconds[event] = 0.0
        buckets[bisect_left(LATENCY_SECONDS, seconds)] += 1
        self._seconds[event] += seconds

    def collect(self) -> Iterator[Metric]:
        """What was counted so far."""
        events = CounterMetricFamily("parley_events", "Client events by name and outcome", labels=["event", "outcome"])
        for (event, outcome), count in self._outcomes.items():
            events.add_metric([event, outcome], count)
        yield events
        seconds = HistogramMetricFamily("parley_ack_seconds", "From receiving an event to its answer", labels=["event"])
        bounds = [*map(str, LATENCY_SECONDS), "+Inf"]
        for event, buckets in self._buckets.items():
            cumulative = list(zip(bounds, accumulate(buckets), strict=True))
            seconds.add_metric([event], cumulative, sum_value=self._seconds[event])
        yield seconds


class Metrics:
    """The server's own metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.connections = Gauge("parley_connections", "Open Socket.IO sessions", registry=self.registry)
        self.handshakes = Counter(
            "parley_handshakes", "Socket.IO handshakes by outcome", ["outcome"], registry=self.registry
        )
        self.recoveries = Counter(
            "parley_recoveries", "Sessions that clients came back for, by outcome", ["outcome"], registry=self.registry
        )
        self.answered = Answers()
        self.registry.register(self.answered)
        self.commit_batch = Histogram(
            "parley_commit_batch_messages",
            "Messages in one insert of the log",
            buckets=BATCH_MESSAGES,
            registry=self.registry,
        )
        self.loop_lag = Histogram(
            "parley_loop_lag_seconds",
            "How late the event loop calls what is due",
            buckets=LATENCY_SECONDS,
            registry=self.registry,
        )
        self.emitters_connected = Gauge(
            "parley_emitters_connected", "Whether foreign emitters are heard", registry=self.registry
        )
        self.foreign_events = Counter(
            "parley_foreign_events",
            "Commands of foreign emitters by source and outcome",
            ["source", "outcome"],
            registry=self.registry,
        )
        self.moderation = Counter(
            "parley_moderation", "Messages shown to the hook, by outcome", ["outcome"], registry=self.registry
        )
        self.mentions_dropped = Counter(
            "parley_mentions_dropped", "Messages whose mentions made no notifications", registry=self.registry
        )
        self.dropped_packets = Gauge(
            "parley_dropped_packets",
            "Typing, presence and receipt events since the start that clients who lag behind were spared",
            registry=self.registry,
        )
        self.limits_hit = Counter(
            "parley_limits_hit", "Clients or events past a bound, by bound", ["limit"], registry=self.registry
        )

    def limit_hit(self, limit: str) -> None:
        """Count something that went past one of `realtime.limits.Limits`."""
        self.limits_hit.labels(limit).inc()
