"""A run second by second, for a plot. Pure: time is what the reports say."""

from typing import NamedTuple

from loadtests.tally import Tally

LATE_SECONDS = 5
"""How long a second is kept open for the reports of a worker that lags behind the others."""
SECONDS_MAX = 86_400
"""A run is not longer than its tokens are valid; what comes later is left out."""


class Second(NamedTuple):
    """One second of a run; `at` in seconds since its first, latencies in ms, `open` connections at its end."""

    at: int
    phase: str
    acked: int
    delivered: int
    errors: int
    open: int
    ack_p50: float
    ack_p99: float
    delivery_p50: float
    delivery_p99: float


class Timeline:
    """Takes the workers' reports in, in about the order of their times, and sums them up by the second."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0
        self._gathering: dict[int, tuple[str, Tally]] = {}
        self._seconds: list[Second] = []
        self._open = 0

    def add(self, phase: str, tally: Tally, at: float) -> None:
        """A report on what happened around the time `at`, in seconds on any clock that all reports share."""
        second = int(at)
        self._first = second if self._first is None else self._first
        self._last = max(self._last, second)
        second = max(second, self._first + len(self._seconds))
        _, sum_of_second = self._gathering.setdefault(second, (phase, Tally()))
        sum_of_second.add(tally)
        self._gathering[second] = (phase, sum_of_second)
        self._close_until(self._last - LATE_SECONDS)

    def seconds(self) -> list[Second]:
        """All seconds from the first report to the last, without a gap."""
        self._close_until(self._last)
        return self._seconds

    def _close_until(self, last: int) -> None:
        if self._first is None:
            return
        while (number := len(self._seconds)) + self._first <= last and number < SECONDS_MAX:
            before = self._seconds[-1].phase if self._seconds else ""
            phase, tally = self._gathering.pop(self._first + number, (before, Tally()))
            self._open += tally.connected
            ack, delivery = tally.ack.milliseconds(), tally.delivery.milliseconds()
            latencies = ack["p50"], ack["p99"], delivery["p50"], delivery["p99"]
            errors = sum(tally.errors.values())
            self._seconds.append(Second(number, phase, tally.acked, tally.delivered, errors, self._open, *latencies))
