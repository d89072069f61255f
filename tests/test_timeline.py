"""A run second by second: nothing is lost or counted twice on the way into a plot."""

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.tally import Tally
from loadtests.timeline import LATE_SECONDS, Timeline

REPORTS = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5), st.integers(-2, 3)), max_size=60)


@settings(deadline=None)
@given(REPORTS, st.floats(0, 1e6))
def test_seconds_add_up(reports: list[tuple[float, int, int]], began: float) -> None:
    """Whatever the times of the reports, the seconds have no gap and together hold what the reports held."""
    timeline = Timeline()
    for at, acked, connected in sorted(reports):
        tally = Tally()
        tally.acked, tally.connected = acked, connected
        timeline.add("sending", tally, began + at)
    seconds = timeline.seconds()
    assert [second.at for second in seconds] == list(range(len(seconds)))
    assert sum(second.acked for second in seconds) == sum(acked for _, acked, _ in reports)
    assert (seconds[-1].open if seconds else 0) == sum(connected for _, _, connected in reports)


def test_a_late_report_counts_in_its_second_or_the_first_open_one() -> None:
    """A worker that lags a little is put where it belongs, one that lags much where there still is room."""
    timeline, tally = Timeline(), Tally()
    tally.acked = 1
    for at in (100.0, 102.0, 101.5, 103.0 + LATE_SECONDS, 100.2):
        timeline.add("sending", tally, at)
    acked = [second.acked for second in timeline.seconds()]
    assert acked == [1, 1, 1, 0, 1, 0, 0, 0, 1]
