"""Bringing a message before the admins (wire contract, section 4)."""

from auth.caller import Caller
from handlers.rooms import find_joined_room
from handlers.services import Services
from protocol.commands import ReportMessage
from protocol.errors import NotFound
from protocol.replies import Reply


async def report_message(caller: Caller, command: ReportMessage, services: Services) -> Reply:
    """Keep a report with the text as it stands; a second one by the same person changes nothing.

    Raises: NotFound, Forbidden.
    """
    await find_joined_room(caller.user_id, command.room_id, services)
    found = await services.log.between(command.room_id, command.seq - 1, command.seq + 1, 1)
    if not found:
        raise NotFound("there is no such message in this room")
    (message,) = found
    await services.reports.add(
        caller.user_id,
        room_id=message.room_id,
        seq=message.seq,
        sender_id=message.sender_id,
        text=message.text,
        reason=command.reason,
    )
    return Reply()
