"""What a server says of itself: the samples of its metrics page."""

from typing import NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

SCRAPE_SECONDS = 10.0

Samples = dict[tuple[str, ...], float]
"""By the metric's name and the values of its labels, sorted by label."""


class Server(NamedTuple):
    """A moment of a server: CPU seconds since its start, resident bytes, and late calls of its loop by bucket."""

    cpu_seconds: float
    resident_bytes: float
    lag: dict[float, float]

    def later_than(self, seconds: float, before: "Server") -> float:
        """How many samples of the loop since `before` were later than that, which is the edge of a bucket."""
        return sum(self.lag[edge] - before.lag[edge] for edge in (float("inf"),)) - (
            self.lag[seconds] - before.lag[seconds]
        )

    def worst_lag(self, before: "Server") -> float:
        """The edge that no sample since `before` went past, in seconds."""
        total = self.lag[float("inf")] - before.lag[float("inf")]
        return min(edge for edge, count in self.lag.items() if count - before.lag[edge] >= total)


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
    return Server(samples["process_cpu_seconds_total",], samples["process_resident_memory_bytes",], lag)
