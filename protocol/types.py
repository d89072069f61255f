"""Ids, times and bounded scalars of the wire contract (sections 1 and 2)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, PlainSerializer, StrictBool, StringConstraints, WithJsonSchema

from protocol.emoji import is_emoji

MAX_SAFE_INTEGER = 2**53 - 1
USER_ID_PATTERN = r"^[A-Za-z0-9_.:-][A-Za-z0-9_.:@-]{0,63}$"
ROOM_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
PLAIN_PATTERN = r"^[^\x00]*$"
"""No U+0000, which no store takes; unpaired surrogates are no strings to the validator in the first place."""
METADATA_MAX_BYTES = 4096
USER_IDS_MAX = 200

_UNENCODABLE = re.compile("[\x00\ud800-\udfff]")


NOT_PLAIN = "must not contain U+0000 or unpaired surrogates"


def _plain_text(value: str) -> str:
    """Refuse U+0000 and unpaired surrogates, which no store and no JSON writer takes."""
    if _UNENCODABLE.search(value):
        raise ValueError(NOT_PLAIN)
    return value


def _has_content(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _one_emoji(value: str) -> str:
    if not is_emoji(value):
        raise ValueError("must be one emoji, fully qualified: with U+FE0F where it is text by default, and only there")
    return value


UserId = Annotated[str, StringConstraints(strict=True, pattern=USER_ID_PATTERN)]
RoomId = Annotated[str, StringConstraints(strict=True, pattern=ROOM_ID_PATTERN)]
ClientId = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64, pattern=PLAIN_PATTERN)]
ExternalId = ClientId
Token = Annotated[str, StringConstraints(strict=True, min_length=1), AfterValidator(_plain_text)]
SessionId = Annotated[str, StringConstraints(strict=True, pattern=ROOM_ID_PATTERN)]
Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=10_000, pattern=PLAIN_PATTERN)]
Title = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=200),
    AfterValidator(_plain_text),
    AfterValidator(_has_content),
]
Emoji = Annotated[
    str,
    StringConstraints(strict=True),
    AfterValidator(_one_emoji),
    Field(description="one emoji, fully qualified"),
]
Cursor = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=512, pattern=r"^[A-Za-z0-9_=-]+$")]
Seq = Annotated[int, Field(strict=True, ge=1, le=MAX_SAFE_INTEGER)]
Watermark = Annotated[int, Field(strict=True, ge=0, le=MAX_SAFE_INTEGER)]
Limit = Annotated[int, Field(strict=True, ge=1, le=100)]
Flag = StrictBool
Reason = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=1_000),
    AfterValidator(_plain_text),
    AfterValidator(_has_content),
]
NotificationId = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=128), AfterValidator(_plain_text)
]


def _check_json(value: Any, depth: int = 0) -> None:
    """Refuse what JSON readers elsewhere would bend: numbers past 2**53, keys that a store would interpret."""
    if depth > 32:
        raise ValueError("is nested deeper than 32")
    if isinstance(value, str):
        _plain_text(value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise ValueError("has a number beyond ±(2^53-1)")
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key or key.startswith("$") or "." in key:
                raise ValueError("has a key that is empty, starts with $ or contains a dot")
            _plain_text(key)
            _check_json(item, depth + 1)
    else:
        raise ValueError("is not JSON")


def _check_metadata(value: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_json(value)
    if len(orjson.dumps(value)) > METADATA_MAX_BYTES:
        raise ValueError(f"is larger than {METADATA_MAX_BYTES} bytes of JSON")
    return value


Metadata = Annotated[
    dict[str, Any],
    AfterValidator(_check_metadata),
    Field(description="at most 4 KiB of JSON; keys without a dot, U+0000 or a leading $"),
]


def iso_utc(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`, the wire's only form of a time."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


Moment = Annotated[
    datetime,
    PlainSerializer(iso_utc, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""A time that leaves as ISO 8601 UTC with milliseconds."""


class RoomKind(StrEnum):
    """direct: exactly two people; group: by invitation; channel: anyone joins."""

    DIRECT = "direct"
    GROUP = "group"
    CHANNEL = "channel"


class Role(StrEnum):
    """What a member may do, weakest first."""

    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"


class PresenceStatus(StrEnum):
    """What a device says of its user; invisible: here, and not for others to know."""

    ONLINE = "online"
    AWAY = "away"
    BUSY = "busy"
    INVISIBLE = "invisible"


HereStatus = Literal["online", "away", "busy"]
"""How others see somebody who is here."""
SeenStatus = Literal["online", "away", "busy", "offline"]
"""How others see somebody."""
RemovalReason = Literal["left", "kicked", "banned", "deleted"]
"""Why a room is gone from a user's devices."""


NotificationType = Literal["mention", "push", "reminder"]
"""What a notification tells of."""
