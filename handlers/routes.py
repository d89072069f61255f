"""THE table: every client event, what it carries, and what serves it. The catalogue of the protocol on one page."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from handlers import channels, memberships, messages, rooms
from protocol import commands
from protocol.replies import Reply
from protocol.wire import Inbound

Handler = Callable[[Any, Any, Any], Awaitable[Reply | Awaitable[Reply]]]


class Route(NamedTuple):
    """An event's payload model, and the function `(caller, command, services) -> reply`.

    A function that returns an awaitable has taken its place in order; what is left may overlap with later events of
    the same name.
    """

    command: type[Inbound]
    handle: Handler


ROUTES: dict[str, Route] = {
    # rooms
    "room:create": Route(commands.CreateRoom, rooms.create_room),
    "room:get": Route(commands.InRoom, rooms.get_room),
    "room:update": Route(commands.UpdateRoom, rooms.update_room),
    "room:delete": Route(commands.InRoom, rooms.delete_room),
    "room:list": Route(commands.ListRooms, rooms.list_rooms),
    "channel:list": Route(commands.ListChannels, channels.list_channels),
    # members
    "room:members": Route(commands.ListMembers, memberships.list_members),
    "room:join": Route(commands.InRoom, memberships.join_room),
    "room:leave": Route(commands.InRoom, memberships.leave_room),
    "room:invite": Route(commands.InviteMembers, memberships.invite_members),
    "room:kick": Route(commands.NameMember, memberships.kick_member),
    "room:ban": Route(commands.NameMember, memberships.ban_member),
    "room:unban": Route(commands.NameMember, memberships.unban_member),
    "room:role": Route(commands.SetRole, memberships.set_role),
    "room:mute": Route(commands.MuteRoom, memberships.mute_room),
    # messages
    "message:send": Route(commands.SendMessage, messages.send_message),
    "message:history": Route(commands.ReadHistory, messages.read_history),
    "message:sync": Route(commands.SyncMessages, messages.sync_messages),
}
