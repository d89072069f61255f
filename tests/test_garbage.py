"""Full collections that look through what is new, and through everything after many sessions have ended."""

import gc

from server.garbage import DEAD_MAX, Garbage


class Ring:
    """Refers to itself: only the collector can find out that it is dead."""

    def __init__(self) -> None:
        self.myself = self


def live_rings() -> int:
    """How many there are, collected or not."""
    return sum(isinstance(thing, Ring) for thing in gc.get_objects())


def test_what_survives_is_frozen_until_many_have_ended() -> None:
    """A survivor leaves the collector's sight; what dies frozen is found at the thaw that many ended sessions bring."""
    ended = 0
    garbage = Garbage(lambda: ended, lambda: 0)
    garbage.start()
    try:
        kept = Ring()
        gc.collect()
        assert live_rings() == 0
        del kept
        gc.collect()
        ended = DEAD_MAX + 1
        gc.collect()
        assert live_rings() == 1
        gc.collect()
        assert live_rings() == 0
        frozen = gc.get_freeze_count()
        gc.collect()
        assert frozen > 0
    finally:
        garbage.stop()
    assert gc.get_freeze_count() == 0
