"""What acks carry beside `success: true`: one model an event (wire contract, sections 3 and 4)."""

from typing import Final, Literal

from pydantic import PrivateAttr

from protocol.resources import (
    KeptNotification,
    Member,
    Message,
    OpenSession,
    OwnedMessage,
    Person,
    Reached,
    Room,
    RoomSummary,
    UserPresence,
)
from protocol.types import Moment
from protocol.wire import Outbound


class Reply(Outbound):
    """The fields of a successful ack; this one has none."""


class EncodedReply:
    """A reply whose JSON is at hand already; how its fields are named, the model it stands for says."""

    __slots__ = ("_json",)

    def __init__(self, json: bytes) -> None:
        self._json = json

    def wire_json(self) -> bytes:
        """That JSON."""
        return self._json


AnyReply = Reply | EncodedReply
DONE: Final = EncodedReply(b"{}")
"""A reply without fields."""


class RoomReply(Reply):
    """One room in full."""

    room: Room


class RoomsPage(Reply):
    """The caller's rooms; `totalUnread` counts all of them, not only this page."""

    rooms: list[RoomSummary]
    next_cursor: str | None
    total_unread: int
    _json: bytes | None = PrivateAttr(None)

    def wire_json(self) -> bytes:
        """The page as JSON, written once: it is long, and measured before it is sent."""
        if self._json is None:
            self._json = super().wire_json()
        return self._json


class Channel(Outbound):
    """A channel as the directory shows it."""

    room_id: str
    title: str | None
    member_count: int
    joined: bool


class ChannelsPage(Reply):
    """The channel directory."""

    rooms: list[Channel]
    next_cursor: str | None


class MembersPage(Reply):
    """A room's members."""

    members: list[Member]
    next_cursor: str | None


class InviteReply(Reply):
    """Who became a member by this call."""

    added: list[str]


class MuteReply(Reply):
    """Until when the room is silent."""

    muted_until: Moment | None


class SendReply(Reply):
    """The place that a message took, for good."""

    message_id: str
    seq: int
    created_at: Moment
    duplicate: bool
    message: OwnedMessage

    @staticmethod
    def encode(message: Message, message_json: bytes, created_at: str) -> EncodedReply:
        """This reply for a message just stored, around JSON that its delivery has made already."""
        fields = b'{"messageId":"%s","seq":%d,"createdAt":"%s","duplicate":false,"message":%s,"myReactions":[]}}' % (
            message.message_id.encode(),
            message.seq,
            created_at.encode(),
            message_json[:-1],
        )
        return EncodedReply(fields)


class MessageReply(Reply):
    """One message."""

    message: OwnedMessage


class ReactionReply(Reply):
    """A message's reactions, and which of them are the caller's."""

    reactions: dict[str, int]
    my_reactions: list[str]


class PinReply(Reply):
    """A room's pinned messages, in the order they were pinned."""

    pins: list[int]


class ThreadPage(Reply):
    """A message and replies to it in ascending order; `hasMore` says whether later ones follow."""

    root: OwnedMessage
    messages: list[OwnedMessage]
    has_more: bool


class HistoryPage(Reply):
    """Messages in ascending order; `hasMore` says whether more lie in the direction asked for."""

    messages: list[OwnedMessage]
    has_more: bool
    last_seq: int


class RoomSync(Outbound):
    """What a client missed in one room."""

    messages: list[OwnedMessage]
    changed: list[OwnedMessage]
    last_seq: int
    has_more: bool
    reset: bool


class RoomGone(Outbound):
    """The caller is no longer a member of this room."""

    gone: Literal[True] = True


class SyncReply(Reply):
    """What a client missed, room by room."""

    rooms: dict[str, RoomSync | RoomGone]
    sync_token: str


class NotificationsPage(Reply):
    """The caller's notifications, newest first."""

    notifications: list[KeptNotification]
    next_cursor: str | None


class NotificationsReadReply(Reply):
    """How many notifications the caller has still not read."""

    unread_notifications: int


class BlocksPage(Reply):
    """Whom the caller has blocked."""

    user_ids: list[str]
    next_cursor: str | None


class UsersReply(Reply):
    """Those asked for, by id, each one as known; who is left out did not fit into the reply."""

    users: dict[str, Person]


class RefreshReply(Reply):
    """Until when the session goes on."""

    expires_at: Moment


class SessionsReply(Reply):
    """The caller's connections, the latest first."""

    sessions: list[OpenSession]


class PresenceReply(Reply):
    """Who of those asked for is here, by id."""

    users: dict[str, UserPresence]


class DeliveredReply(Reply):
    """How far the caller's devices have got."""

    delivered_seq: int


class ReadReply(Reply):
    """How far the caller has read, and what is left to read."""

    read_seq: int
    unread: int
    mentions: int


class ReceiptsPage(Reply):
    """Members who have a message; those of them who have read it are in both lists."""

    read_by: list[Reached]
    delivered_to: list[Reached]
    next_cursor: str | None
