"""Connection state recovery as the stock client does it: what it keeps of a session, and what it offers for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Session:
    """What recovery goes by: the ids of a session, and the offset of the last event that had one."""

    sid: str
    pid: str
    offset: str | None = None

    @classmethod
    def begin(cls, ids: Mapping[str, Any], resumed: "Session | None") -> tuple["Session | None", bool]:
        """The session of an answer to CONNECT, None when it cannot be recovered; and whether it is the resumed one."""
        pid = ids.get("pid")
        if not isinstance(pid, str):
            return None, False
        recovered = resumed is not None and (resumed.sid, resumed.pid) == (ids["sid"], pid)
        return cls(ids["sid"], pid, resumed.offset if resumed is not None and recovered else None), recovered

    def note(self, arguments: Sequence[Any]) -> None:
        """Take the offset from an event's name and arguments: it is the last one, if that is a string."""
        if len(arguments) > 1 and isinstance(arguments[-1], str):
            self.offset = arguments[-1]


def credentials(token: str, resume: Session | None) -> dict[str, str]:
    """The payload of CONNECT."""
    if resume is None:
        return {"token": token}
    offset = {} if resume.offset is None else {"offset": resume.offset}
    return {"token": token, "pid": resume.pid, **offset}
