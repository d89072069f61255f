"""The things that events and acks carry: rooms, members, messages (wire contract, sections 3 and 4)."""

from typing import Any, Literal

from pydantic import Field

from protocol.types import Moment, Role, RoomKind
from protocol.wire import Outbound

PREVIEW_CODE_POINTS = 200


class LastMessage(Outbound):
    """A room's newest message as lists show it; `text` is null when it was deleted or has none."""

    seq: int
    sender_id: str
    text: str | None
    created_at: Moment


class RoomSummary(Outbound):
    """A room in a list, seen by one of its members."""

    room_id: str
    kind: RoomKind
    title: str | None
    peer_id: str | None
    last_seq: int
    read_seq: int
    unread: int
    mentions: int
    muted_until: Moment | None
    last_message: LastMessage | None
    updated_at: Moment


class Room(RoomSummary):
    """A room in full, seen by one of its members; `role` is theirs."""

    created_by: str
    created_at: Moment
    member_count: int
    role: Role
    metadata: dict[str, Any]
    slow_mode_seconds: int
    pins: list[int]
    first_seq: int
    external_id: str | None


class Member(Outbound):
    """One member of a room, with the profile their last token carried."""

    user_id: str
    name: str | None
    avatar: str | None
    role: Role
    joined_at: Moment
    read_seq: int
    delivered_seq: int


class ThreadSummary(Outbound):
    """What a message's replies amount to."""

    count: int
    last_seq: int
    last_at: Moment


class Message(Outbound):
    """One message. A deleted one keeps its seq; its text is null and the rest is empty."""

    message_id: str
    room_id: str
    seq: int
    sender_id: str
    type: Literal["text"] = "text"
    text: str | None
    client_id: str | None
    reply_to: int | None
    attachments: list[dict[str, Any]]
    mentions: list[str]
    metadata: dict[str, Any]
    reactions: dict[str, int]
    thread: ThreadSummary | None
    created_at: Moment
    edited_at: Moment | None
    deleted_at: Moment | None


class OwnedMessage(Message):
    """A message as acks carry it: with the caller's own reactions."""

    my_reactions: list[str] = Field(default_factory=list)
