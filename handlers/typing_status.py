"""Who is typing (wire contract, section 5). Nothing of it is stored."""

from auth.caller import Caller
from handlers.messages import Answer
from handlers.rooms import find_joined_room
from handlers.services import Services
from protocol.commands import InRoom
from protocol.replies import DONE, Reply


async def start_typing(caller: Caller, command: InRoom, services: Services) -> Reply:
    """Tell the others of a room that the caller is typing, unless they have just been told.

    In a direct room that one of the two has blocked, nobody is told anything. Raises: NotFound, Forbidden.
    """
    await _check_joined(caller, command.room_id, services)
    if caller.session_id is None or services.typing.renew(command.room_id, caller.user_id, caller.session_id):
        return Reply()
    if not await services.send_rules.are_parted(caller.user_id, command.room_id):
        services.typing.start(command.room_id, caller.user_id, caller.session_id)
    return Reply()


def start_at_once(caller: Caller, command: InRoom, services: Services, answer: Answer) -> bool:
    """The same for a member of whom this node knows, without a wait, that nobody may miss it; else False."""
    room_id, user_id, session_id = command.room_id, caller.user_id, caller.session_id
    if session_id is None or not services.fanout.is_in(session_id, room_id):
        return False
    if not services.typing.renew(room_id, user_id, session_id):
        if not services.send_rules.none_apply(user_id, room_id):
            return False
        services.typing.start(room_id, user_id, session_id)
    answer(DONE)
    return True


async def stop_typing(caller: Caller, command: InRoom, services: Services) -> Reply:
    """Tell them that the caller has stopped, if they have been told of the beginning. Raises: NotFound, Forbidden."""
    await _check_joined(caller, command.room_id, services)
    if caller.session_id is not None:
        services.typing.stop(command.room_id, caller.user_id, caller.session_id)
    return Reply()


def stop_at_once(caller: Caller, command: InRoom, services: Services, answer: Answer) -> bool:
    """The same for a member on this node, without a wait; else False."""
    if caller.session_id is None or not services.fanout.is_in(caller.session_id, command.room_id):
        return False
    services.typing.stop(command.room_id, caller.user_id, caller.session_id)
    answer(DONE)
    return True


async def _check_joined(caller: Caller, room_id: str, services: Services) -> None:
    if not services.fanout.is_in(caller.session_id, room_id):
        await find_joined_room(caller.user_id, room_id, services)
