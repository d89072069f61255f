"""The sync token: an opaque place in the feed of changes, from which a client goes on asking.

Version 1 stands for a moment by which everything was told; version 2 is a walk through more changes than fit into one
reply: where it stands, and the moment at which it began, from which the next one will start.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime

from handlers.pages import moment_key, parse_moment_key
from protocol.errors import ValidationFailed
from protocol.types import MAX_SAFE_INTEGER
from storage.change_feed import OVERLAP, Position

_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SyncToken:
    """Everything up to `moment` is told once the walk that stands at `position`, if there is one, is at its end."""

    moment: datetime
    position: Position | None = None

    @property
    def start(self) -> Position:
        """Where to go on; a new walk begins a little earlier than the last one did (see `OVERLAP`)."""
        return self.position or Position(self.moment - OVERLAP, "", 0)


def make_sync_token(token: SyncToken) -> str:
    """The token as clients keep it."""
    fields = ["1", moment_key(token.moment)]
    if token.position is not None:
        changed_at, room_id, seq = token.position
        fields = ["2", fields[1], moment_key(changed_at), str(seq), room_id]
    return urlsafe_b64encode(".".join(fields).encode()).decode()


def read_sync_token(token: str) -> SyncToken:
    """What `make_sync_token` wrote. Raises: ValidationFailed for anything that no server of ours made."""
    try:
        version, moment, *walk = urlsafe_b64decode(token.encode()).decode("ascii").split(".")
        if version == "1" and not walk:
            return SyncToken(_parse_moment(moment))
        if version == "2":
            changed_at, seq, room_id = walk
            return SyncToken(_parse_moment(moment), Position(_parse_moment(changed_at), room_id, _parse_seq(seq)))
        raise ValueError
    except (ValueError, OverflowError):
        raise ValidationFailed(
            details=[{"field": "syncToken", "message": "must be a syncToken of this server"}]
        ) from None


def _parse_moment(text: str) -> datetime:
    moment = parse_moment_key(text)
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError
    return moment


def _parse_seq(text: str) -> int:
    seq = int(text)
    if not 0 <= seq <= MAX_SAFE_INTEGER:
        raise ValueError
    return seq
