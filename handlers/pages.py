"""One page of a listing: the cursor that leads to the next, and how much fits into a reply."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from protocol.errors import ValidationFailed
from protocol.wire import Outbound

PAGE_MAX_BYTES = 500_000
"""What the items of a page may weigh: a reply is at most 512 KiB, and some of it is not items."""
_SEPARATOR = "\0"
"""Parts a cursor's key from its id: neither titles, times nor ids contain it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Key = TypeVar("Key")
Item = TypeVar("Item", bound=Outbound)


def encode_cursor(key: str, identifier: str) -> str:
    """A place in an ordered listing, opaque to clients: the sort key and the id of the last item seen."""
    return urlsafe_b64encode(f"{key}{_SEPARATOR}{identifier}".encode()).decode()


def decode_cursor(cursor: str | None, parse: Callable[[str], Key]) -> tuple[Key, str] | None:
    """The place that `encode_cursor` wrote, its key read by `parse`; None without a cursor.

    Raises: ValidationFailed on `cursor` for anything that no listing of this order could have made.
    """
    if cursor is None:
        return None
    try:
        key, identifier = urlsafe_b64decode(cursor.encode()).decode().split(_SEPARATOR)
        return parse(key), identifier
    except (ValueError, OverflowError):
        raise ValidationFailed(
            details=[{"field": "cursor", "message": "must be a nextCursor of this listing"}]
        ) from None


def moment_key(moment: datetime) -> str:
    """A time as a cursor's key: milliseconds since the epoch."""
    return str((moment - _EPOCH) // timedelta(milliseconds=1))


def parse_moment_key(key: str) -> datetime:
    """The time that `moment_key` wrote. Raises: ValueError, OverflowError."""
    return _EPOCH + timedelta(milliseconds=int(key))


def fitting(items: Sequence[Item]) -> list[Item]:
    """As many of the first items as a reply can carry; at least one, if there is one."""
    kept: list[Item] = []
    size = 0
    for item in items:
        size += len(item.wire_json())
        if kept and size > PAGE_MAX_BYTES:
            break
        kept.append(item)
    return kept
