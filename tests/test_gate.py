"""The gate of a room: whatever comes in, what goes out is strictly ascending, and with a store complete."""

from hypothesis import given
from hypothesis import strategies as st

from realtime.gate import MAX_WAITING, Gate

SEQS = st.lists(st.integers(min_value=1, max_value=30), max_size=80)
START = st.integers(min_value=0, max_value=20)


@given(offers=SEQS, start=START, position=st.integers(min_value=0, max_value=80))
def test_what_leaves_is_ascending_without_a_hole(offers: list[int], start: int, position: int) -> None:
    """Duplicates, losses, reordering, and a start at any moment: out comes start + 1, start + 2, … each once."""
    gate: Gate[int] = Gate()
    out: list[int] = []
    for number, seq in enumerate(offers):
        if number == position:
            out += gate.start(start)
        out += gate.offer(seq, seq)
        assert gate.last is not None or not out
    out += gate.start(start)
    assert out == list(range(start + 1, start + 1 + len(out)))
    assert gate.last == start + len(out)
    assert gate.has_gap == any(seq > start + len(out) for seq in offers)


@given(offers=SEQS, start=START, fills=st.lists(st.integers(min_value=0, max_value=79), max_size=10))
def test_with_a_store_that_fills_gaps_the_stream_is_complete(offers: list[int], start: int, fills: list[int]) -> None:
    """Reading what is missing from the store, now and then and in the end, brings every number up to the highest."""
    gate: Gate[int] = Gate()
    out = gate.start(start)

    def fill() -> None:
        if gate.last is not None and gate.has_gap:
            for seq in range(gate.last + 1, gate.highest + 1):
                out.extend(gate.offer(seq, seq))

    for number, seq in enumerate(offers):
        out += gate.offer(seq, seq)
        if number in fills:
            fill()
            assert not gate.has_gap
    fill()
    assert out == list(range(start + 1, max([start, *offers]) + 1))
    assert not gate.has_gap


@given(first=START, second=START, held=SEQS)
def test_only_the_first_start_counts(first: int, second: int, held: list[int]) -> None:
    """A gate that stands somewhere does not move back or forth by being started again."""
    gate: Gate[int] = Gate()
    for seq in held:
        assert gate.offer(seq, seq) == []
    gate.start(first)
    last = gate.last
    assert gate.start(second) == []
    assert gate.last == last


def test_what_is_held_back_is_bounded() -> None:
    """Beyond the bound items are dropped, and the gap that they belong to says how far the store must be read."""
    gate: Gate[int] = Gate()
    gate.start(0)
    for seq in range(2, MAX_WAITING + 12):
        assert gate.offer(seq, seq) == []
    assert (gate.has_gap, gate.highest) == (True, MAX_WAITING + 11)
    assert gate.offer(1, 1) == list(range(1, MAX_WAITING + 2))
    assert gate.has_gap


@given(
    brought=st.lists(st.tuples(st.booleans(), st.integers(min_value=1, max_value=20)), max_size=60),
    start=st.integers(min_value=0, max_value=10),
    position=st.integers(min_value=0, max_value=60),
)
def test_what_is_about_a_number_goes_behind_it(brought: list[tuple[bool, int]], start: int, position: int) -> None:
    """Whatever the order of arrival, nothing leaves before the number it is about, each once, and none is lost."""
    gate: Gate[tuple[bool, int]] = Gate()
    out: list[tuple[bool, int]] = []
    for number, (is_about, seq) in enumerate(brought):
        if number == position:
            out += gate.start(start)
        out += gate.offer_behind(seq, (True, seq)) if is_about else gate.offer(seq, (False, seq))
    out += gate.start(start)
    if gate.has_gap:
        assert gate.last is not None
        for seq in range(gate.last + 1, gate.highest + 1):
            out += gate.offer(seq, (False, seq))
    for place, (is_about, seq) in enumerate(out):
        assert not is_about or seq <= start or (False, seq) in out[:place]
    about = [seq for is_about, seq in brought if is_about]
    assert sorted(seq for is_about, seq in out if is_about) == sorted(about)
    assert [seq for is_about, seq in out if not is_about] == list(range(start + 1, (gate.last or 0) + 1))
    assert not gate.has_gap


def test_what_waits_behind_a_number_is_bounded() -> None:
    """Beyond the bound it is dropped; the number it is about is missing all the same."""
    gate: Gate[int] = Gate()
    gate.start(0)
    for item in range(MAX_WAITING + 10):
        assert gate.offer_behind(1, item) == []
    assert gate.has_gap
    assert gate.offer(1, -1) == [-1, *range(MAX_WAITING)]
    assert not gate.has_gap
