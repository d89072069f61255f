"""What clients may ask for: one model an event, validated at the edge (wire contract, sections 3 and 4).

Payloads are refused, never repaired: an unknown field, a wrong type or a number out of range is VALIDATION_ERROR.
"""

import re
from datetime import datetime
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from protocol.types import (
    USER_ID_PATTERN,
    USER_IDS_MAX,
    ClientId,
    Cursor,
    Emoji,
    ExternalId,
    Flag,
    Limit,
    Metadata,
    NotificationId,
    PresenceStatus,
    Reason,
    Role,
    RoomId,
    RoomKind,
    Seq,
    SessionId,
    Text,
    Title,
    Token,
    UserId,
    Watermark,
)
from protocol.wire import Inbound, Maybe

ROOM_MENTION = "@room"
PAGE_DEFAULT = 50
SYNC_PAGE_DEFAULT = 100
SYNC_ROOMS_MAX = 200
SLOW_MODE_SECONDS_MAX = 86_400
WATCHED_IDS_MAX = 500
NOTIFICATION_IDS_MAX = 500

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def fault(field: str, message: str) -> PydanticCustomError:
    """A fault found by looking at several fields together, laid at the door of one of them."""
    return PydanticCustomError("parley", "{message}", {"field": field, "message": message})


def _parse_moment(value: object) -> object:
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("must be an ISO 8601 time in UTC, such as 2026-01-31T12:00:00.000Z")
    return datetime.fromisoformat(value)


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("must not name anyone twice")
    return values


def _true(value: bool) -> bool:
    if not value:
        raise ValueError("must be true, or left out")
    return value


UserIds = Annotated[list[UserId], Field(min_length=1, max_length=USER_IDS_MAX), AfterValidator(_unique)]
Mention = Annotated[str, Field(pattern=f"^@room$|{USER_ID_PATTERN}")]
Kind = Annotated[RoomKind, Field(strict=False)]
MemberRole = Annotated[Role, Field(strict=False)]
OwnStatus = Annotated[PresenceStatus, Field(strict=False)]
WatchedIds = Annotated[list[UserId], Field(min_length=1, max_length=WATCHED_IDS_MAX), AfterValidator(_unique)]


class CreateRoom(Inbound):
    """Make a room. A direct room has exactly one `memberIds` entry, the other person, and nothing of its own."""

    kind: Kind
    member_ids: Annotated[list[UserId], Field(max_length=USER_IDS_MAX), AfterValidator(_unique)] = Field(
        default_factory=list
    )
    title: Maybe[Title] = None
    metadata: Metadata = Field(default_factory=dict)
    external_id: Maybe[ExternalId] = None
    client_id: Maybe[ClientId] = None

    @model_validator(mode="after")
    def _direct_rooms_are_pairs(self) -> Self:
        if self.kind is RoomKind.DIRECT:
            if len(self.member_ids) != 1:
                raise fault("memberIds", "a direct room needs exactly one entry here")
            own = {"title": self.title, "externalId": self.external_id, "metadata": self.metadata or None}
            for field, value in own.items():
                if value is not None:
                    raise fault(field, "a direct room has none")
        return self


class InRoom(Inbound):
    """An event that needs nothing but the room."""

    room_id: RoomId


class UpdateRoom(InRoom):
    """Change what is given and leave the rest."""

    title: Maybe[Title] = None
    metadata: Maybe[Metadata] = None
    slow_mode_seconds: Maybe[Annotated[int, Field(ge=0, le=SLOW_MODE_SECONDS_MAX)]] = None


class ListRooms(Inbound):
    """The caller's rooms, newest activity first."""

    cursor: Maybe[Cursor] = None
    limit: Annotated[int, Field(ge=1, le=500)] = PAGE_DEFAULT


class ListChannels(Inbound):
    """Channels that anyone may join, by title."""

    query: Maybe[Title] = None
    cursor: Maybe[Cursor] = None
    limit: Limit = PAGE_DEFAULT


class ListMembers(InRoom):
    """A room's members, longest standing first."""

    cursor: Maybe[Cursor] = None
    limit: Limit = PAGE_DEFAULT


class InviteMembers(InRoom):
    """Make others members."""

    user_ids: UserIds


class NameMember(InRoom):
    """An event about one person in a room: kick, ban, unban."""

    user_id: UserId


class SetRole(NameMember):
    """Give a member another role."""

    role: MemberRole


class MuteRoom(InRoom):
    """Silence a room for the caller until a time, or no longer (null)."""

    until: Annotated[datetime, BeforeValidator(_parse_moment)] | None


class SendMessage(InRoom):
    """Say something. The same `clientId` in the same room is the same message, however often it is sent."""

    text: Maybe[Text] = None
    client_id: Maybe[ClientId] = None
    reply_to: Maybe[Seq] = None
    attachments: Annotated[list[ClientId], Field(max_length=10)] = Field(default_factory=list)
    mentions: Annotated[list[Mention], Field(max_length=50), AfterValidator(_unique)] = Field(default_factory=list)
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.text is None and not self.attachments:
            raise fault("text", "a message needs text or attachments")
        return self


class NameMessage(InRoom):
    """An event about one message in a room."""

    seq: Seq


class EditMessage(NameMessage):
    """Give one's own message another text."""

    text: Text


class React(NameMessage):
    """Set one's emoji on a message, or take it back."""

    emoji: Emoji
    remove: Flag = False


class PinMessage(NameMessage):
    """Show a message on top of its room, or no longer."""

    pinned: Flag


class ReadThread(NameMessage):
    """A message and the replies to it, oldest first."""

    after: Maybe[Watermark] = None
    limit: Limit = PAGE_DEFAULT


class ReachSeq(InRoom):
    """Say how far the caller's devices have got, or the caller has read."""

    seq: Seq


class ListReceipts(InRoom):
    """Who has a message, and who has read it, longest standing members first."""

    seq: Seq
    cursor: Maybe[Cursor] = None
    limit: Limit = PAGE_DEFAULT


class ReadHistory(InRoom):
    """A page of messages beside one seq (`before` and `after` exclusive), or the newest."""

    before: Maybe[Seq] = None
    after: Maybe[Watermark] = None
    around: Maybe[Seq] = None
    limit: Limit = PAGE_DEFAULT

    @model_validator(mode="after")
    def _one_anchor(self) -> Self:
        if sum(anchor is not None for anchor in (self.before, self.after, self.around)) > 1:
            raise fault("before", "give only one of before, after and around")
        return self


class SyncMessages(Inbound):
    """What a client missed in each room since the seq it last saw."""

    rooms: Annotated[dict[RoomId, Watermark], Field(max_length=SYNC_ROOMS_MAX)]
    sync_token: Maybe[Cursor] = None
    limit: Annotated[int, Field(ge=1, le=500)] = SYNC_PAGE_DEFAULT


class ReportMessage(InRoom):
    """Bring a message before the admins."""

    seq: Seq
    reason: Reason


class NameUser(Inbound):
    """An event about one person: block, unblock."""

    user_id: UserId


class ListBlocks(Inbound):
    """Whom the caller has blocked."""

    cursor: Maybe[Cursor] = None


class ListNotifications(Inbound):
    """The caller's notifications, newest first."""

    cursor: Maybe[Cursor] = None
    limit: Limit = PAGE_DEFAULT
    unread_only: Flag = False


class ReadNotifications(Inbound):
    """Mark notifications as read: these, or all."""

    ids: Maybe[Annotated[list[NotificationId], Field(min_length=1, max_length=NOTIFICATION_IDS_MAX)]] = None
    all: Maybe[Annotated[Flag, AfterValidator(_true)]] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.ids is None) == (self.all is None):
            raise fault("ids", "give either ids or all: true")
        return self


class GetUsers(Inbound):
    """How these users want to be shown."""

    user_ids: UserIds


class RefreshToken(Inbound):
    """Go on with a newer token of the same user."""

    token: Token


class ListSessions(Inbound):
    """Where the caller is connected at the moment."""


class EndSession(Inbound):
    """Disconnect one of the caller's own connections."""

    session_id: SessionId


class SetPresence(Inbound):
    """What this device says of its user, until it is gone."""

    status: OwnStatus


class GetPresence(Inbound):
    """Who of these users is here."""

    user_ids: UserIds


class WatchPresence(Inbound):
    """Be told, or no longer, of these users' coming and going."""

    user_ids: WatchedIds
