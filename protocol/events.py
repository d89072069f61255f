"""What the server tells clients: one model an event, each owning its wire name (wire contract, sections 1 to 4)."""

from typing import Any, ClassVar, Literal

from protocol.resources import Failure, Message, Notification, Room, RoomSummary
from protocol.types import HereStatus, Moment, RemovalReason, Role
from protocol.wire import Outbound


class ServerEvent(Outbound):
    """An event on its way to sockets. A `droppable` one may be left out for a client that does not keep up."""

    wire_name: ClassVar[str]
    droppable: ClassVar[bool] = False


class SessionReady(ServerEvent):
    """The first event of every connection: who it is, and the caller's rooms as they stand."""

    wire_name = "session:ready"

    protocol: int = 1
    features: list[str]
    limits: dict[str, int]
    user_id: str
    session_id: str
    device_id: str | None
    server_time: Moment
    expires_at: Moment
    rooms: list[RoomSummary]
    next_cursor: str | None
    total_unread: int
    unread_notifications: int
    sync_token: str


class SessionClosed(ServerEvent):
    """The server is about to end this connection, and whether to come back."""

    wire_name = "session:closed"

    code: str
    reconnect: bool


class SessionExpiring(ServerEvent):
    """The session's token is about to expire: `auth:refresh` with a newer one keeps the session."""

    wire_name = "session:expiring"

    expires_at: Moment


class UserUpdated(ServerEvent):
    """A user is shown in another way."""

    wire_name = "user:updated"

    user_id: str
    name: str | None
    avatar: str | None


class EventFailed(ServerEvent):
    """The failure of an event that carried no callback."""

    wire_name = "event:error"

    event: str
    error: Failure

    def wire_json(self) -> bytes:
        """The model as UTF-8 JSON with wire names."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)


class RoomAdded(ServerEvent):
    """The user's devices have one room more."""

    wire_name = "room:added"

    room: Room


class RoomRemoved(ServerEvent):
    """The user's devices have one room less."""

    wire_name = "room:removed"

    room_id: str
    reason: RemovalReason


class RoomUpdated(ServerEvent):
    """What all members see of a room has changed."""

    wire_name = "room:updated"

    room_id: str
    title: str | None
    metadata: dict[str, Any]
    slow_mode_seconds: int
    pins: list[int]
    member_count: int
    updated_at: Moment


class RoomDeleted(ServerEvent):
    """The room is no more."""

    wire_name = "room:deleted"

    room_id: str
    by: str


class MemberJoined(ServerEvent):
    """Someone became a member."""

    wire_name = "member:joined"

    room_id: str
    user_id: str
    role: Role


class MemberLeft(ServerEvent):
    """Someone is no longer a member; `by` is themselves, or who removed them."""

    wire_name = "member:left"

    room_id: str
    user_id: str
    by: str


class MemberRoleChanged(ServerEvent):
    """A member has another role."""

    wire_name = "member:role"

    room_id: str
    user_id: str
    role: Role
    by: str


class MessageReceived(Message, ServerEvent):
    """A message, to every connection of the members but the sending one."""

    wire_name = "message:received"


class MessageEdited(Message, ServerEvent):
    """A message with another text; of several, the one with the latest `editedAt` holds."""

    wire_name = "message:edited"


class MessageDeleted(ServerEvent):
    """A message is no more, for good, but for its place."""

    wire_name = "message:deleted"

    room_id: str
    message_id: str
    seq: int
    by: str
    deleted_at: Moment


class MessageReaction(ServerEvent):
    """Someone's reaction has come or gone; the counts are those after it, and of several the latest `at` holds."""

    wire_name = "message:reaction"

    room_id: str
    seq: int
    message_id: str
    user_id: str
    emoji: str
    removed: bool
    reactions: dict[str, int]
    at: Moment


class MessagePinned(ServerEvent):
    """A message is shown on top of its room, or no longer."""

    wire_name = "message:pinned"

    room_id: str
    seq: int
    pinned: bool
    by: str


class DeliveredUpTo(ServerEvent):
    """A member's devices have all messages up to this one."""

    wire_name = "message:delivered"
    droppable = True

    room_id: str
    user_id: str
    seq: int
    at: Moment


class ReadUpTo(ServerEvent):
    """A member has read all messages up to this one."""

    wire_name = "message:read"
    droppable = True

    room_id: str
    user_id: str
    seq: int
    at: Moment


class UnreadUpdated(ServerEvent):
    """What is unread has changed, other than by a message: for the user's devices."""

    wire_name = "unread:updated"

    room_id: str
    unread: int
    mentions: int
    total_unread: int


class NotificationSent(Notification, ServerEvent):
    """Something the user's devices are told of."""

    wire_name = "notification"


class NotificationsRead(ServerEvent):
    """Another device of the user has marked notifications as read: `ids` or `all`, the other is left out."""

    wire_name = "notification:read"

    ids: list[str] | None = None
    all: Literal[True] | None = None
    unread_notifications: int

    def wire_json(self) -> bytes:
        """The model as UTF-8 JSON with wire names."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)


class TypingStarted(ServerEvent):
    """Someone is typing; without word of them for so long they no longer are."""

    wire_name = "typing:start"
    droppable = True

    room_id: str
    user_id: str
    expires_in_ms: int


class TypingStopped(ServerEvent):
    """Someone is no longer typing."""

    wire_name = "typing:stop"
    droppable = True

    room_id: str
    user_id: str


class UserOnline(ServerEvent):
    """A watched user has come."""

    wire_name = "user:online"
    droppable = True

    user_id: str
    status: HereStatus


class UserStatusChanged(ServerEvent):
    """A watched user is here as before, in another status."""

    wire_name = "user:status"
    droppable = True

    user_id: str
    status: HereStatus


class UserOffline(ServerEvent):
    """A watched user has gone, or hides; `lastSeen` is null when it is not known, or not for others to know."""

    wire_name = "user:offline"
    droppable = True

    user_id: str
    last_seen: Moment | None
