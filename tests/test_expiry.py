"""When sessions are warned and ended: by the monotonic clock, whatever else happens to them."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from auth.expiry import WARNING_SECONDS, Due, ExpirySchedule

SESSION_IDS = st.sampled_from(["one", "two", "three"])
SECONDS = st.floats(min_value=0, max_value=300, allow_nan=False)


@given(start=st.floats(min_value=0, max_value=10**6), left=st.floats(min_value=0.001, max_value=10**9))
def test_a_session_is_warned_once_and_ended_once(start: float, left: float) -> None:
    """The warning comes a minute before the end, or at once; the end is never early, and at most 1 s late."""
    schedule = ExpirySchedule(start)
    warned_at_once = schedule.set("one", start, left)
    assert warned_at_once or left > WARNING_SECONDS
    moments = [start + left - WARNING_SECONDS - 1.001, start + left - WARNING_SECONDS, start + left - 0.001]
    early, warned, kept = [list(schedule.pass_to(max(moment, start))) for moment in moments]
    assert early == [] or left < WARNING_SECONDS + 2
    assert early + warned == ([] if warned_at_once else [Due("one", is_end=False)])
    assert kept == []
    assert list(schedule.pass_to(start + left + 1.001)) == [Due("one", is_end=True)]
    assert len(schedule) == 0


class ScheduleMachine(RuleBasedStateMachine):
    """The schedule beside a model that looks at every session every time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.25
        self.schedule = ExpirySchedule(self.now)
        self.ends: dict[str, float] = {}
        self.warned: dict[str, bool] = {}

    @rule(session_id=SESSION_IDS, left=SECONDS)
    def set(self, session_id: str, left: float) -> None:
        """A session begins, or gets a new token."""
        self.ends[session_id] = self.now + left
        self.warned[session_id] = self.schedule.set(session_id, self.now, left)

    @rule(session_id=SESSION_IDS)
    def drop(self, session_id: str) -> None:
        """A session goes."""
        self.schedule.drop(session_id)
        self.ends.pop(session_id, None)

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        """Time passes: nobody is ended early, warned twice, or ended without a warning of up to a minute."""
        self.now += seconds
        for session_id, is_end in self.schedule.pass_to(self.now):
            if is_end:
                assert self.ends.pop(session_id) <= self.now
            else:
                assert not self.warned[session_id]
                assert self.ends[session_id] - self.now <= WARNING_SECONDS + 1
                self.warned[session_id] = True

    @invariant()
    def nobody_is_overdue(self) -> None:
        """Whoever is left is known, and not over for more than a second."""
        assert len(self.schedule) == len(self.ends)
        assert all(end > self.now - 2 for end in self.ends.values())
        assert all(self.warned[session_id] or end > self.now + 58 for session_id, end in self.ends.items())


TestSchedule = ScheduleMachine.TestCase
