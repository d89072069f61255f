"""Logs and metrics: what the operator sees."""

import logging
import sys
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

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
        self.events = Counter(
            "parley_events", "Client events by name and outcome", ["event", "outcome"], registry=self.registry
        )
        self.ack_seconds = Histogram(
            "parley_ack_seconds",
            "From receiving an event to its answer",
            ["event"],
            buckets=LATENCY_SECONDS,
            registry=self.registry,
        )
        self.commit_batch = Histogram(
            "parley_commit_batch_messages",
            "Messages in one insert of the log",
            buckets=BATCH_MESSAGES,
            registry=self.registry,
        )
        self.bus_connected = Gauge("parley_bus_connected", "Whether Redis carries events", registry=self.registry)
        self.bus_failures = Gauge(
            "parley_bus_failed_publishes", "Publishes that Redis did not take", registry=self.registry
        )
        self.moderation = Counter(
            "parley_moderation", "Messages shown to the hook, by outcome", ["outcome"], registry=self.registry
        )
        self.mentions_dropped = Counter(
            "parley_mentions_dropped", "Messages whose mentions made no notifications", registry=self.registry
        )
        self._answers: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def answered(self, event: str, outcome: str, seconds: float) -> None:
        """Count one event and the time to its answer."""
        series = self._answers.get((event, outcome))
        if series is None:
            series = self.events.labels(event, outcome), self.ack_seconds.labels(event)
            self._answers[event, outcome] = series
        counter, histogram = series
        counter.inc()
        histogram.observe(seconds)
