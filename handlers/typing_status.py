"""Who is typing (wire contract, section 5). Nothing of it is stored."""

from auth.caller import Caller
from handlers.rooms import find_joined_room
from handlers.services import Services
from protocol.commands import InRoom
from protocol.replies import Reply


async def start_typing(caller: Caller, command: InRoom, services: Services) -> Reply:
    """Tell the others of a room that the caller is typing, unless they have just been told.

    In a direct room that one of the two has blocked, nobody is told anything. Raises: NotFound, Forbidden.
    """
    await _check_joined(caller, command.room_id, services)
    if caller.session_id is None or services.typing.renew(command.room_id, caller.user_id, caller.session_id):
        return Reply()
    record = await services.rooms.get(command.room_id)
    peer = None if record is None else record.peer_of(caller.user_id)
    if peer is None or not await services.block_cache.is_blocked_either(caller.user_id, peer):
        services.typing.start(command.room_id, caller.user_id, caller.session_id)
    return Reply()


async def stop_typing(caller: Caller, command: InRoom, services: Services) -> Reply:
    """Tell them that the caller has stopped, if they have been told of the beginning. Raises: NotFound, Forbidden."""
    await _check_joined(caller, command.room_id, services)
    if caller.session_id is not None:
        services.typing.stop(command.room_id, caller.user_id, caller.session_id)
    return Reply()


async def _check_joined(caller: Caller, room_id: str, services: Services) -> None:
    if not services.fanout.is_in(caller.session_id, room_id):
        await find_joined_room(caller.user_id, room_id, services)
