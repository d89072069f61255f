"""What a client that comes back is replayed of its rooms' logs, and in which order. Pure: no clock, no I/O.

The logs are in the order of the bus. By the time a client got the event whose offset it brings, it had got its node's
earlier events, and whatever the bus had brought there. What the bus took longer for is replayed with the rest, so an
event of another node may come twice; of the offset's own node each comes once.

Some events have a number in their room, or are about one that has (see realtime.gate): those wait on the receiving
node for lower numbers, so a later offset does not say that they were sent.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from realtime.envelope import Frame
from realtime.offsets import Offset, parse_offset
from realtime.recovery_log import LogEntry

SLACK_MS: Final = 1_000
"""How much later than it was stamped, at most, a node that sends offsets has an event of another node: see Doubt."""
EVIDENCE_MS: Final = 2_000
"""How far before an offset a log is read: what lies before the slack shows which numbers the client has."""

Moment = tuple[int, int, int]
"""When Redis got an entry, when its node had stamped it, and its number there."""
_FIRST: Final[Moment] = (0, 0, 0)
_LAST: Final[Moment] = (2**63, 0, 0)
_Place = tuple[Moment, int]


class Missed(NamedTuple):
    """An event to be replayed, of a room; without an offset when it is from elsewhere than the log.

    `number` is its place in the room, or, negative, that of the event which it is about; None has no order there.
    """

    room: str
    number: int | None
    payload: bytes
    offset: bytes | None = None
    moment: Moment | None = None


class Replay(NamedTuple):
    """What is missed, room by room, and the numbers of each room that the client has, or is not to be sent."""

    missed: list[Missed]
    had: dict[str, set[int]]


def read_logs(
    logs: Mapping[str, Sequence[LogEntry]],
    offset: Offset,
    session_id: str,
    rooms: Collection[str],
    joined_ms: Mapping[str, int],
) -> Replay:
    """Sort out what a client with this offset has missed.

    `rooms` are all that the session is in; nothing is replayed of a room from before the user `joined` it.
    """
    replay = Replay([], {})
    for room, entries in logs.items():
        had = replay.had[room] = set()
        since_joined = joined_ms.get(room, 0) - SLACK_MS
        first_held = _first_held(entries, offset)
        missed: dict[int | bytes, Missed] = {}
        for (at, _), frame in entries:
            stamp = _stamp(frame)
            is_sent = abs(frame.seq or 0) < first_held and _is_before(at, stamp, offset)
            is_for_others = frame.skip == session_id or (frame.unless is not None and frame.unless in rooms)
            number = frame.seq if frame.seq is not None and frame.seq > 0 else None
            if is_sent or is_for_others or at < since_joined:
                if number is not None:
                    had.add(number)
            elif number not in had:
                event = Missed(room, frame.seq, frame.payload, frame.offset, (at, stamp.ms, stamp.number))
                missed.setdefault(number or frame.offset or b"", event)
        replay.missed.extend(missed.values())
    return replay


def _stamp(frame: Frame) -> Offset:
    stamp = parse_offset((frame.offset or b"").decode())
    if stamp is None:
        raise ValueError("a log entry without an offset")
    return stamp


def _is_before(at: int, stamp: Offset, offset: Offset) -> bool:
    """Whether an event had arrived where the client got its offset."""
    if stamp.node == offset.node:
        return stamp.number <= offset.number
    return at < offset.ms - SLACK_MS


def _first_held(entries: Sequence[LogEntry], offset: Offset) -> int:
    """The first number that may have been waited for: one that came after the offset, or never by the bus."""
    came = {
        frame.seq: _is_before(at, _stamp(frame), offset)
        for (at, _), frame in reversed(entries)
        if frame.seq is not None and frame.seq > 0
    }
    number = min(came, default=2**63)
    while came.get(number, False):
        number += 1
    return number


def in_order(missed: Iterable[Missed]) -> list[Missed]:
    """The order of the logs, over all rooms; in each room numbers ascend, each once, with what is about them behind.

    What has no moment, being from elsewhere, goes to its number's place. Each room's events come as they were logged.
    """
    by_room: dict[str, list[Missed]] = {}
    for event in missed:
        by_room.setdefault(event.room, []).append(event)
    ordered: list[tuple[_Place, int, int, Missed]] = []
    for events in by_room.values():
        logged = _places(events)
        numbered = _place_numbers(logged)
        numbers, places = list(numbered), [place for place, _ in numbered.values()]
        ordered += [(place, 0, number, event) for number, (place, event) in numbered.items()]
        for place, event in logged:
            if event.number is None or event.number <= 0:
                about = bisect_right(numbers, -(event.number or 0))
                ordered.append((max([place, *places[:about][-1:]]), 1, place[1], event))
    return [event for *_, event in sorted(ordered, key=lambda entry: entry[:3])]


def _places(events: Sequence[Missed]) -> list[tuple[_Place, Missed]]:
    """Of one millisecond's entries those of one log keep their order, whatever their stamps say."""
    latest, placed = _FIRST, []
    for index, event in enumerate(events):
        latest = max(latest, event.moment or _FIRST)
        placed.append(((latest if event.moment is not None else _LAST, index), event))
    return placed


def _place_numbers(events: Iterable[tuple[_Place, Missed]]) -> dict[int, tuple[_Place, Missed]]:
    """Each number once, ascending, at places that do not go back; without a moment: behind the one before, or first."""
    first: dict[int, tuple[_Place, Missed]] = {}
    for place, event in events:
        if event.number is not None and event.number > 0:
            first.setdefault(event.number, (place, event))
    ascending = sorted(first.items())
    latest = min((place for _, (place, event) in ascending if event.moment is not None), default=(_LAST, 0))
    placed: dict[int, tuple[_Place, Missed]] = {}
    for number, (place, event) in ascending:
        if event.moment is not None:
            latest = max(latest, place)
        placed[number] = (latest, event)
    return placed
