"""Latencies as a histogram that merges across processes."""

from collections import defaultdict

PRECISION_BITS = 7
"""Bits kept of a value beside its leading one: a bucket is at most 1/128 of its value wide."""


class Histogram:
    """Counts of durations in whole microseconds, in buckets less than 1 % wide; the maximum is exact."""

    __slots__ = ("counts", "maximum", "total")

    def __init__(self) -> None:
        self.counts: defaultdict[int, int] = defaultdict(int)
        self.total = 0
        self.maximum = 0

    def record(self, microseconds: int) -> None:
        """Count one duration; a negative one counts as zero."""
        value = microseconds if microseconds > 0 else 0
        shift = value.bit_length() - (PRECISION_BITS + 1)
        bucket = value if shift <= 0 else (shift << PRECISION_BITS) + (value >> shift)
        self.counts[bucket] += 1
        self.total += 1
        if value > self.maximum:
            self.maximum = value

    def add(self, other: "Histogram") -> None:
        """Put the counts of another one in."""
        for bucket, count in other.counts.items():
            self.counts[bucket] += count
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def percentile(self, percent: float) -> int:
        """The duration in µs that `percent` of all do not exceed: nearest rank, a bucket's upper end; 0 when empty."""
        if not self.total:
            return 0
        rank = max(1, -int(-self.total * percent // 100))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return min(_upper_end(bucket), self.maximum)
        return self.maximum

    def milliseconds(self) -> dict[str, float]:
        """p50, p95, p99 and max, in ms."""
        figures = {f"p{percent}": self.percentile(percent) / 1000 for percent in (50, 95, 99)}
        return {**figures, "max": self.maximum / 1000}


def _upper_end(bucket: int) -> int:
    """The largest value that falls into the bucket."""
    if bucket < 2 << PRECISION_BITS:
        return bucket
    shift = (bucket >> PRECISION_BITS) - 1
    mantissa = bucket - (shift << PRECISION_BITS)
    return ((mantissa + 1) << shift) - 1
