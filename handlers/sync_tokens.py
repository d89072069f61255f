"""The sync token: an opaque place in time, from which a client asks for what has changed."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime

from protocol.errors import ValidationFailed


def make_sync_token(moment: datetime) -> str:
    """The token of a moment."""
    return urlsafe_b64encode(b"1.%d" % int(moment.timestamp() * 1000)).decode()


def read_sync_token(token: str | None) -> datetime | None:
    """The moment of a token. Raises: ValidationFailed for anything that no server of ours made."""
    if token is None:
        return None
    try:
        version, milliseconds = urlsafe_b64decode(token.encode()).split(b".")
        if version != b"1":
            raise ValueError
        return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValidationFailed(
            details=[{"field": "syncToken", "message": "must be a syncToken of this server"}]
        ) from None
