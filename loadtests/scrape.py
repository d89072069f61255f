"""What a server says of itself: the samples of its metrics page."""

from typing import NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

SCRAPE_SECONDS = 10.0

Buckets = dict[float, float]
"""Counts by the upper edge of each bucket, those of all lower ones included."""
Samples = dict[tuple[str, ...], float]
"""By the metric's name and the values of its labels, sorted by label."""


class Server(NamedTuple):
    """A moment of a server: CPU seconds since its start, resident bytes, and by bucket the lateness of its loop and the
    time to the acks of messages."""

    cpu_seconds: float
    resident_bytes: float
    lag: Buckets
    send_acks: Buckets

    def worst_lag(self, before: "Server") -> float:
        """The edge that no sample since `before` went past, in seconds."""
        return _edge(self.lag, before.lag, 1.0)

    def send_ack(self, before: "Server", share: float) -> float:
        """The edge that this share of the messages' acks since `before` did not go past, in seconds."""
        return _edge(self.send_acks, before.send_acks, share)


async def scrape(url: str) -> Samples:
    """All samples. Raises aiohttp.ClientError, or TimeoutError."""
    timeout = aiohttp.ClientTimeout(total=SCRAPE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(f"{url}/health/metrics") as answer:
        text = await answer.text()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def look_at(url: str) -> Server:
    """The server now. Raises as `scrape` does."""
    samples = await scrape(url)
    lag = {float(key[1]): value for key, value in samples.items() if key[0] == "parley_loop_lag_seconds_bucket"}
    acks = {
        float(key[2]): value
        for key, value in samples.items()
        if key[:2] == ("parley_ack_seconds_bucket", "message:send")
    }
    return Server(samples["process_cpu_seconds_total",], samples["process_resident_memory_bytes",], lag, acks)


def _edge(after: Buckets, before: Buckets, share: float) -> float:
    grown = {edge: count - before.get(edge, 0.0) for edge, count in after.items()}
    wanted = share * grown.get(float("inf"), 0.0)
    return min((edge for edge, count in grown.items() if count >= wanted), default=0.0)
