"""What the server tells clients: one model an event, each owning its wire name (wire contract, sections 1 to 4)."""

from typing import Any, ClassVar

from protocol.resources import Message, Room, RoomSummary
from protocol.types import Moment, RemovalReason, Role
from protocol.wire import Outbound


class ServerEvent(Outbound):
    """An event on its way to sockets."""

    wire_name: ClassVar[str]


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


class EventFailed(ServerEvent):
    """The failure of an event that carried no callback."""

    wire_name = "event:error"

    event: str
    error: dict[str, Any]


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
