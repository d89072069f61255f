"""Offsets, and what of the logs is replayed: nothing is lost, each room in order, few things twice."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.envelope import Frame
from realtime.gate import Gate
from realtime.offsets import Offset, Stamps, base36, parse_offset, stamped_ms
from realtime.recovery_log import LogEntry
from realtime.replay import EVIDENCE_MS, SLACK_MS, Missed, in_order, read_logs

START_MS = 1_800_000_000_000
HERE = "y"


async def test_offsets_are_numbered() -> None:
    """A node's offsets carry its time and id, and numbers that go up by one."""
    stamps = Stamps("abc123", lambda: START_MS)
    made = [stamps.make() for _ in range(3_000)]
    assert [parse_offset(offset.decode()) for offset in made] == [
        Offset(START_MS, "abc123", number) for number in range(3_000)
    ]
    assert {stamped_ms(offset) for offset in made} == {START_MS}


@pytest.mark.parametrize(
    "text",
    [None, 5, "", ".", "..", "a.b", "a.b.", "a.b.c.d", "a.b.-1", "a b.c.d", "é.b.c", "a_1.b.c", "a" * 99, "a.b.c\n"],
)
def test_what_is_no_offset(text: Any) -> None:
    """Nothing else passes for one."""
    assert parse_offset(text) is None


@given(st.integers(0, 2**63), st.from_regex(r"[0-9a-f]{12}", fullmatch=True), st.integers(0, 2**40))
def test_offsets_are_read_as_written(ms: int, node: str, number: int) -> None:
    """What is made of the three parts gives them back."""
    assert parse_offset(f"{base36(ms).decode()}.{node}.{base36(number).decode()}") == Offset(ms, node, number)


@dataclass
class World:
    """Three nodes that say things to two rooms, and a client in both on one of them, `y`.

    `logs` is what Redis has; `received` what the client was sent, in order, each as (room, offset).
    """

    seed: int
    logs: dict[str, list[LogEntry]] = field(default_factory=lambda: {"room:a": [], "room:b": []})
    received: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        said: list[tuple[float, int, str, Frame]] = []
        logged_at, arrives_at, numbers, seqs = dict.fromkeys("xyz", 0.0), 0.0, dict.fromkeys("xyz", 0), {"a": 0, "b": 0}
        now, events = 0, []
        for _ in range(chance.randrange(1, 60)):
            now += chance.choice([0, 0, 1, 20, 200, 1_500])
            node, room = chance.choice("xyz"), chance.choice("ab")
            seq: int | None = None
            if (kind := chance.random()) < 0.5:
                seqs[room] += 1
                seq = seqs[room]
            elif kind < 0.75 and seqs[room]:
                seq = -chance.randint(1, seqs[room])
            offset = b"%b.%b.%b" % (base36(START_MS + now), node.encode(), base36(numbers[node]))
            numbers[node] += 1
            # A node's outbox is in order, and so is the bus; each takes its time.
            logged_at[node] = max(logged_at[node], now + chance.choice([0, 1, 5, 300]))
            events.append((logged_at[node], now, node, f"room:{room}", Frame(offset, None, None, seq, offset)))
        for index, (at, now, node, room, frame) in enumerate(sorted(events, key=lambda event: event[0])):
            self.logs[room].append(LogEntry((START_MS + int(at), index), frame))
            arrives_at = max(arrives_at, at + chance.choice([0, 1, 400]))
            said.append((now if node == HERE else arrives_at, index, room, frame))
        gates: dict[str, Gate[bytes]] = {"room:a": Gate(), "room:b": Gate()}
        for gate in gates.values():
            gate.start(0)
        for _, _, room, frame in sorted(said, key=lambda event: event[:2]):
            assert frame.offset is not None
            if frame.seq is None:
                passed = [frame.offset]
            elif frame.seq > 0:
                passed = gates[room].offer(frame.seq, frame.offset)
            else:
                passed = gates[room].offer_behind(-frame.seq, frame.offset)
            self.received += [(room, offset) for offset in passed]

    def missed_after(self, count: int) -> tuple[Offset, list[Missed]]:
        """What a client is replayed that comes back with the last of its first `count` offsets."""
        offset = parse_offset(self.received[count - 1][1].decode())
        assert offset is not None
        earliest = offset.ms - SLACK_MS - EVIDENCE_MS
        logs = {room: [entry for entry in log if entry.id[0] >= earliest] for room, log in self.logs.items()}
        return offset, in_order(read_logs(logs, offset, "session", set(logs), {}).missed)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_nothing_is_lost(seed: int, when: float) -> None:
    """Whenever the client drops, what it had and what it is replayed is all there was, and not much comes twice."""
    world = World(seed)
    count = max(1, round(when * len(world.received)))
    offset, missed = world.missed_after(count)
    had = set(world.received[:count])
    replayed = [(event.room, event.offset) for event in missed]
    assert len(replayed) == len(set(replayed))
    assert had | set(replayed) == set(world.received)
    seqs = {entry.frame.offset: entry.frame.seq for log in world.logs.values() for entry in log}
    for room, repeated in had & set(replayed):
        stamp = parse_offset(repeated.decode())
        assert stamp is not None
        # An offset that waited for a lower number is older than what went before it.
        is_later = stamp.node == offset.node and stamp.number > offset.number
        is_recent = is_later or (stamp.node != offset.node and stamp.ms >= offset.ms - SLACK_MS - 300)
        assert is_recent or seqs[repeated] is not None, (room, repeated)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_the_order_of_a_room(seed: int, when: float) -> None:
    """Numbers ascend, each once; what is about one comes behind it; the rest as the log has it."""
    world = World(seed)
    _, missed = world.missed_after(max(1, round(when * len(world.received))))
    for room, log in world.logs.items():
        events = [event for event in missed if event.room == room]
        numbers = [event.number for event in events if event.number is not None and event.number > 0]
        assert numbers == sorted(set(numbers))
        for index, event in enumerate(events):
            if event.number is not None and event.number < 0:
                assert -event.number not in [later.number for later in events[index:]]
        unnumbered = [event.offset for event in events if event.number is None]
        replayed = set(unnumbered)
        assert unnumbered == [entry.frame.offset for entry in log if entry.frame.offset in replayed]


def entry(
    ms: int, offset: bytes, seq: int | None = None, *, skip: str | None = None, unless: str | None = None
) -> LogEntry:
    """One of a log."""
    return LogEntry((ms, 0), Frame(offset, skip, unless, seq, b"42[]"))


def test_what_is_not_for_this_client() -> None:
    """Its own messages, what leaves out a room that it is in, and what was said before it joined are not replayed."""
    ms = 36**4
    log = [
        entry(ms - 5_000, b"10000.x.1", 1),
        entry(ms, b"10000.x.2", 2, skip="mine"),
        entry(ms, b"10000.x.3", unless="user:me"),
        entry(ms, b"10000.x.4", 3, skip="another"),
        entry(ms, b"10000.x.5", 3),
        entry(ms, b"10000.x.6", unless="user:you"),
    ]
    replay = read_logs({"room:a": log}, Offset(0, "y", 0), "mine", {"room:a", "user:me"}, {"room:a": ms})
    assert [event.offset for event in replay.missed] == [b"10000.x.4", b"10000.x.6"]
    assert replay.had == {"room:a": {1, 2}}


def test_what_is_from_elsewhere_goes_to_its_number() -> None:
    """Messages that no log has stand between those that one has, or behind all."""
    logged = [
        Missed("a", 3, b"", b"o", (5, 5, 1)),
        Missed("a", -4, b"", b"o", (6, 6, 1)),
        Missed("b", None, b"", b"o", (7, 7, 1)),
    ]
    elsewhere = [Missed("a", number, b"") for number in (5, 4, 2)] + [Missed("c", 9, b"")]
    ordered = [(event.room, event.number) for event in in_order([*logged, *elsewhere])]
    assert ordered == [("a", 2), ("a", 3), ("a", 4), ("a", 5), ("a", -4), ("b", None), ("c", 9)]
