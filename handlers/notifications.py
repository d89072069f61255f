"""What a user has been told of (wire contract, section 6)."""

from auth.caller import Caller
from handlers.pages import decode_cursor, encode_cursor, fitting, moment_key, parse_moment_key
from handlers.services import Services
from protocol.commands import ListNotifications, ReadNotifications
from protocol.errors import NotFound
from protocol.events import NotificationsRead
from protocol.replies import NotificationsPage, NotificationsReadReply
from protocol.resources import KeptNotification


async def list_notifications(caller: Caller, command: ListNotifications, services: Services) -> NotificationsPage:
    """The caller's notifications, newest first. Raises: ValidationFailed for a bad cursor."""
    before = decode_cursor(command.cursor, parse_moment_key)
    records = await services.notifications.list(
        caller.user_id, before, command.limit + 1, unread_only=command.unread_only
    )
    page = fitting(
        [
            KeptNotification(
                id=record.id,
                type=record.type,
                title=record.title,
                body=record.body,
                data=record.data,
                created_at=record.created_at,
                read=record.read,
            )
            for record in records[: command.limit]
        ]
    )
    more = len(page) < len(records)
    return NotificationsPage(
        notifications=page, next_cursor=encode_cursor(moment_key(page[-1].created_at), page[-1].id) if more else None
    )


async def read_notifications(caller: Caller, command: ReadNotifications, services: Services) -> NotificationsReadReply:
    """Mark notifications as read, and tell the caller's other devices; again is no error.

    Ids that have expired are passed over. Raises: NotFound when none of them is the caller's.
    """
    if command.ids is None:
        await services.notifications.mark_all_read(caller.user_id)
    elif not await services.notifications.mark_read(caller.user_id, command.ids):
        raise NotFound("there are no such notifications")
    unread = await services.notifications.unread_count(caller.user_id)
    services.fanout.to_user(
        caller.user_id,
        NotificationsRead(ids=command.ids, all=True if command.all else None, unread_notifications=unread),
        skip=caller.session_id,
    )
    return NotificationsReadReply(unread_notifications=unread)
