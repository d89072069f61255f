"""Reading threads (wire contract, section 4)."""

import asyncio

from auth.caller import Caller
from handlers.owned_messages import fitting_messages, owned, weight
from handlers.pages import PAGE_MAX_BYTES
from handlers.rooms import find_joined_room
from handlers.services import Services
from protocol.commands import ReadThread
from protocol.errors import NotFound
from protocol.replies import ThreadPage


async def read_thread(caller: Caller, command: ReadThread, services: Services) -> ThreadPage:
    """A message, deleted or not, and the replies to it beyond `after`, ascending, without deleted ones.

    Raises: NotFound; Forbidden for a channel that the caller has not joined.
    """
    await find_joined_room(caller.user_id, command.room_id, services)
    root, replies = await asyncio.gather(
        services.log.get(command.room_id, command.seq),
        services.threads.replies(command.room_id, command.seq, command.after or 0, command.limit + 1),
    )
    if root is None:
        raise NotFound("there is no such message in this room")
    page = fitting_messages(replies[: command.limit], from_end=False, budget=PAGE_MAX_BYTES - weight(root))
    shown_root, *shown = await owned(caller.user_id, [root, *page], services)
    return ThreadPage(root=shown_root, messages=shown, has_more=len(page) < len(replies))
