"""Who is typing where, as the sessions of this node say. Pure: the caller brings the time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from presence.deadlines import Deadlines

EXPIRY_SECONDS: Final = 6.0
"""How long somebody types without saying so again (wire contract, section 5)."""
SWALLOW_SECONDS: Final = 2.0
"""How soon after an announcement saying so again is no news."""
TYPISTS_MAX: Final = 50_000
"""More than that at once, and newcomers are not announced; about 20 MB."""

Typist = tuple[str, str]
"""A room and a user."""


@dataclass(slots=True)
class _Typing:
    announced: float
    sessions: set[str] = field(default_factory=set)


class Typists:
    """The state of all rooms of one node. Times are seconds of a monotonic clock.

    Whatever returns typists returns those who have stopped, to be told to their rooms.
    """

    def __init__(self) -> None:
        self._typing: dict[Typist, _Typing] = {}
        self._of_session: dict[str, set[Typist]] = {}
        self._due: Deadlines[Typist] = Deadlines()

    def __len__(self) -> int:
        return len(self._typing)

    def __contains__(self, typist: Typist) -> bool:
        return typist in self._typing

    def renew(self, typist: Typist, session_id: str, now: float) -> bool:
        """Somebody types on. False when that is to be announced, by `start`: it is new, or a while ago."""
        typing = self._typing.get(typist)
        if typing is None or now - typing.announced >= SWALLOW_SECONDS:
            return False
        self._join(typist, typing, session_id, now)
        return True

    def start(self, typist: Typist, session_id: str, now: float) -> bool:
        """Somebody types, and it is being announced; False when there are too many."""
        typing = self._typing.get(typist)
        if typing is None:
            if len(self._typing) >= TYPISTS_MAX:
                return False
            typing = self._typing[typist] = _Typing(now)
        typing.announced = now
        self._join(typist, typing, session_id, now)
        return True

    def stop(self, typist: Typist, session_id: str) -> list[Typist]:
        """A device has stopped; the user has, unless another device of theirs goes on."""
        typing = self._typing.get(typist)
        if typing is None or session_id not in typing.sessions:
            return []
        self._part(typist, session_id)
        typing.sessions.discard(session_id)
        return [] if typing.sessions else self.end(typist)

    def end(self, typist: Typist) -> list[Typist]:
        """A user has stopped, on all devices: they have sent, or left."""
        typing = self._typing.pop(typist, None)
        if typing is None:
            return []
        self._due.drop(typist)
        for session_id in typing.sessions:
            self._part(typist, session_id)
        return [typist]

    def gone(self, session_id: str) -> list[Typist]:
        """A device has disconnected."""
        return self._all(self.stop(typist, session_id) for typist in list(self._of_session.get(session_id, ())))

    def expire(self, now: float) -> list[Typist]:
        """Those who have not said so again."""
        return self._all(self.end(typist) for typist in self._due.pop(now))

    def next_due(self) -> float | None:
        """When the next one expires."""
        return self._due.next()

    def _join(self, typist: Typist, typing: _Typing, session_id: str, now: float) -> None:
        typing.sessions.add(session_id)
        self._of_session.setdefault(session_id, set()).add(typist)
        self._due.set(typist, now + EXPIRY_SECONDS)

    def _part(self, typist: Typist, session_id: str) -> None:
        mine = self._of_session[session_id]
        mine.discard(typist)
        if not mine:
            del self._of_session[session_id]

    @staticmethod
    def _all(stopped: Iterable[list[Typist]]) -> list[Typist]:
        return [typist for some in stopped for typist in some]
