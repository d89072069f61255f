"""THE table: every client event, what it carries, and what serves it. The catalogue of the protocol on one page."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from handlers import (
    blocks,
    changes,
    channels,
    memberships,
    messages,
    notifications,
    people,
    presence,
    receipts,
    reports,
    rooms,
    session,
    sync,
    threads,
    typing_status,
)
from protocol import commands
from protocol.replies import AnyReply
from protocol.wire import Inbound

Handler = Callable[[Any, Any, Any], Awaitable[AnyReply | Awaitable[AnyReply]]]
AtOnce = Callable[[Any, Any, Any, messages.Answer], bool]


class Route(NamedTuple):
    """An event's payload model, and the function `(caller, command, services) -> reply`.

    A function that returns an awaitable has taken its place in order; what is left may overlap with later events of
    the same name. `at_once(caller, command, services, answer)` is tried first: it serves the event without a wait and
    has `answer` told what came of it, or returns False and has done nothing.
    """

    command: type[Inbound]
    handle: Handler
    at_once: AtOnce | None = None


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
    # blocks
    "user:block": Route(commands.NameUser, blocks.block_user),
    "user:unblock": Route(commands.NameUser, blocks.unblock_user),
    "user:blocks": Route(commands.ListBlocks, blocks.list_blocks),
    # messages
    "message:send": Route(commands.SendMessage, messages.send_message, messages.send_at_once),
    "message:history": Route(commands.ReadHistory, messages.read_history),
    "message:sync": Route(commands.SyncMessages, sync.sync_messages),
    "message:thread": Route(commands.ReadThread, threads.read_thread),
    "message:edit": Route(commands.EditMessage, changes.edit_message),
    "message:delete": Route(commands.NameMessage, changes.delete_message),
    "message:react": Route(commands.React, changes.react),
    "message:pin": Route(commands.PinMessage, changes.pin_message),
    "message:delivered": Route(commands.ReachSeq, receipts.mark_delivered, receipts.mark_delivered_at_once),
    "message:read": Route(commands.ReachSeq, receipts.mark_read, receipts.mark_read_at_once),
    "message:receipts": Route(commands.ListReceipts, receipts.list_receipts),
    "message:report": Route(commands.ReportMessage, reports.report_message),
    # people and session
    "user:get": Route(commands.GetUsers, people.get_users),
    "auth:refresh": Route(commands.RefreshToken, session.refresh_token),
    "session:list": Route(commands.ListSessions, session.list_sessions),
    "session:end": Route(commands.EndSession, session.end_session),
    # notifications
    "notification:list": Route(commands.ListNotifications, notifications.list_notifications),
    "notification:read": Route(commands.ReadNotifications, notifications.read_notifications),
    # typing and presence
    "typing:start": Route(commands.InRoom, typing_status.start_typing, typing_status.start_at_once),
    "typing:stop": Route(commands.InRoom, typing_status.stop_typing, typing_status.stop_at_once),
    "presence:set": Route(commands.SetPresence, presence.set_presence),
    "presence:get": Route(commands.GetPresence, presence.get_presence),
    "presence:subscribe": Route(commands.WatchPresence, presence.subscribe_presence),
    "presence:unsubscribe": Route(commands.WatchPresence, presence.unsubscribe_presence),
}
