"""When each session is to be warned that its token expires, and when it ends. No I/O and no clock of its own."""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

WARNING_SECONDS: Final = 60
"""How long before its end a session is warned: time enough to fetch a token, also after a retry or two."""


class _Stage(NamedTuple):
    second: int
    ends_at: int
    is_end: bool


class Due(NamedTuple):
    """A session whose moment has come: to be ended, or else to be warned."""

    session_id: str
    is_end: bool


class ExpirySchedule:
    """A timer wheel of whole seconds, which costs the same for one session and for all of them.

    Times are monotonic, in seconds, so that a wall clock that jumps ends nobody's session. A warning comes up to a
    second early, an end up to a second late and never early; a session with less than `WARNING_SECONDS` left is warned
    at once. Setting a session again replaces what was due.
    """

    def __init__(self, now: float) -> None:
        self._passed = math.floor(now)
        self._stages: dict[str, _Stage] = {}
        self._wheel: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._stages)

    def set(self, session_id: str, now: float, seconds_left: float) -> bool:
        """Let a session end in so many seconds; returns whether it is to be warned now."""
        self.drop(session_id)
        ends_at = max(math.ceil(now + seconds_left), self._passed + 1)
        warned_at = math.floor(now + seconds_left) - WARNING_SECONDS
        is_end = warned_at <= self._passed or seconds_left <= WARNING_SECONDS
        self._put(session_id, _Stage(ends_at if is_end else warned_at, ends_at, is_end))
        return is_end

    def drop(self, session_id: str) -> None:
        """Forget a session, if it is known."""
        stage = self._stages.pop(session_id, None)
        if stage is not None:
            due = self._wheel[stage.second]
            due.discard(session_id)
            if not due:
                del self._wheel[stage.second]

    def pass_to(self, now: float) -> Iterator[Due]:
        """Move on to this time: what has become due since the last call, warnings once and ends for good."""
        earlier, self._passed = self._passed, max(self._passed, math.floor(now))
        for second in self._between(earlier, self._passed):
            for session_id in self._wheel.pop(second):
                stage = self._stages.pop(session_id)
                ends = stage.is_end or stage.ends_at <= self._passed
                if not ends:
                    self._put(session_id, _Stage(stage.ends_at, stage.ends_at, is_end=True))
                yield Due(session_id, ends)

    def _between(self, earlier: int, later: int) -> list[int]:
        # After a long pause of the process there are fewer sessions than seconds.
        if later - earlier > len(self._wheel):
            return sorted(second for second in self._wheel if second <= later)
        return [second for second in range(earlier + 1, later + 1) if second in self._wheel]

    def _put(self, session_id: str, stage: _Stage) -> None:
        self._stages[session_id] = stage
        self._wheel.setdefault(stage.second, set()).add(session_id)
