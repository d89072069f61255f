"""What acks carry beside `success: true`: one model an event (wire contract, sections 3 and 4)."""

from protocol.resources import Member, Message, OwnedMessage, Room, RoomSummary
from protocol.types import Moment, iso_utc
from protocol.wire import Outbound


class Reply(Outbound):
    """The fields of a successful ack; this one has none."""


class EncodedReply(Reply):
    """A reply whose JSON is at hand already; how its fields are named, the model it stands for says."""

    encoded: bytes

    def wire_json(self) -> bytes:
        """That JSON."""
        return self.encoded


class RoomReply(Reply):
    """One room in full."""

    room: Room


class RoomsPage(Reply):
    """The caller's rooms; `totalUnread` counts all of them, not only this page."""

    rooms: list[RoomSummary]
    next_cursor: str | None
    total_unread: int


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
    def encode(message: Message, message_json: bytes, *, duplicate: bool) -> EncodedReply:
        """This reply for a message just stored, around JSON that its delivery has made already."""
        fields = b'{"messageId":"%s","seq":%d,"createdAt":"%s","duplicate":%s,"message":%s,"myReactions":[]}}' % (
            message.message_id.encode(),
            message.seq,
            iso_utc(message.created_at).encode(),
            b"true" if duplicate else b"false",
            message_json[:-1],
        )
        return EncodedReply.model_construct(encoded=fields)


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

    gone: bool = True


class SyncReply(Reply):
    """What a client missed, room by room."""

    rooms: dict[str, RoomSync | RoomGone]
    sync_token: str
