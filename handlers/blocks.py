"""Not wanting to hear from someone (wire contract, section 3)."""

from auth.caller import Caller
from handlers.pages import decode_cursor, encode_cursor
from handlers.services import Services
from protocol.commands import ListBlocks, NameUser
from protocol.errors import ValidationFailed
from protocol.replies import BlocksPage, Reply

BLOCKS_IN_PAGE = 200


async def block_user(caller: Caller, command: NameUser, services: Services) -> Reply:
    """Refuse someone's direct messages from now on; again is no error. Raises: ValidationFailed for oneself."""
    _refuse_oneself(caller, command)
    await services.blocks.block(caller.user_id, command.user_id)
    await services.block_cache.changed(caller.user_id, command.user_id)
    await services.watch_rights.changed(caller.user_id, command.user_id)
    return Reply()


async def unblock_user(caller: Caller, command: NameUser, services: Services) -> Reply:
    """Hear from someone again; someone who is not blocked is no error. Raises: ValidationFailed for oneself."""
    _refuse_oneself(caller, command)
    await services.blocks.unblock(caller.user_id, command.user_id)
    await services.block_cache.changed(caller.user_id, command.user_id)
    await services.watch_rights.changed(caller.user_id, command.user_id)
    return Reply()


async def list_blocks(caller: Caller, command: ListBlocks, services: Services) -> BlocksPage:
    """Whom the caller has blocked, by user id. Raises: ValidationFailed for a bad cursor."""
    place = decode_cursor(command.cursor, str)
    after = place[1] if place is not None else ""
    found = await services.blocks.list(caller.user_id, after, BLOCKS_IN_PAGE + 1)
    shown = list(found[:BLOCKS_IN_PAGE])
    return BlocksPage(user_ids=shown, next_cursor=encode_cursor("", shown[-1]) if len(shown) < len(found) else None)


def _refuse_oneself(caller: Caller, command: NameUser) -> None:
    if command.user_id == caller.user_id:
        raise ValidationFailed(details=[{"field": "userId", "message": "must name someone else"}])
