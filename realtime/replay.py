"""What a client that comes back is replayed of its rooms' logs, and in which order. Pure: no clock, no I/O.

The logs are in the order of the bus. By the time a client got the event whose offset it brings, it had got its node's
earlier events, and whatever the bus had brought there. What the bus took longer for is replayed with the rest, so an
event of another node may come twice; of the offset's own node each comes once.

Some events have a number in their room (see realtime.gate): those wait on the receiving node for lower ones, so a later
offset does not say that they were sent.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

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
    seen: set[bytes] = set()
    for room, entries in logs.items():
        held = _perhaps_held(entries)
        had = replay.had.setdefault(room, set())
        since_joined = joined_ms.get(room, 0) - SLACK_MS
        for entry, perhaps_held in zip(entries, held, strict=True):
            frame = entry.frame
            stamp = parse_offset(frame.offset.decode()) if frame.offset is not None else None
            if frame.offset is None or stamp is None:
                continue
            is_for_others = frame.skip == session_id or (frame.unless is not None and frame.unless in rooms)
            is_delivered = not perhaps_held and _is_before(entry, stamp, offset)
            if is_for_others or is_delivered or entry.id[0] < since_joined or frame.seq in had or frame.offset in seen:
                if frame.seq is not None and frame.seq > 0:
                    had.add(frame.seq)
                continue
            seen.add(frame.offset)
            moment = (entry.id[0], stamp.ms, stamp.number)
            replay.missed.append(Missed(room, frame.seq, frame.payload, frame.offset, moment))
    return replay


def _is_before(entry: LogEntry, stamp: Offset, offset: Offset) -> bool:
    if stamp.node == offset.node:
        return stamp.number <= offset.number
    return entry.id[0] < offset.ms - SLACK_MS


def _perhaps_held(entries: Sequence[LogEntry]) -> list[bool]:
    """Which entries may have waited for a lower number that came later than they, or never by the bus."""
    numbers = [entry.frame.seq for entry in entries]
    known = {number for number in numbers if number is not None and number > 0}
    unbroken = min(known, default=0)
    while unbroken + 1 in known:
        unbroken += 1
    lowest_later: list[int] = []
    lowest = 2**63
    for number in reversed(numbers):
        lowest_later.append(lowest)
        if number is not None and number > 0:
            lowest = min(lowest, number)
    return [
        number is not None and (abs(number) > unbroken or later < number or later <= -number)
        for number, later in zip(numbers, reversed(lowest_later), strict=True)
    ]


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
