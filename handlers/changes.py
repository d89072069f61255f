"""Changing what was sent: edits, deletes, reactions, pins (wire contract, section 4).

Between a change and its event nothing is waited for, so that on one node the events of a message come in the order of
its changes.
"""

import asyncio

from auth.caller import Caller
from auth.permissions import check_can_delete_message, check_can_edit_message, check_can_pin
from handlers.badges import tell_unread
from handlers.owned_messages import owned
from handlers.room_sizes import TOLD_MAX
from handlers.rooms import find_joined_room, tell_room_updated
from handlers.services import Services
from protocol.commands import ROOM_MENTION, EditMessage, NameMessage, PinMessage, React
from protocol.errors import Forbidden, NotFound
from protocol.events import MessageDeleted, MessageEdited, MessagePinned, MessageReaction
from protocol.replies import MessageReply, PinReply, ReactionReply, Reply
from protocol.resources import Message
from storage import change
from storage.members import Membership
from storage.rooms import RoomRecord


async def edit_message(caller: Caller, command: EditMessage, services: Services) -> MessageReply:
    """Give one's own message another text; the same text is no edit.

    Raises: NotFound, also for a deleted message; Forbidden, also to a direct room's peer who has blocked the caller,
    and when the operator's hook says so; Unavailable.
    """
    record, membership, message = await _find(caller, command, services)
    check_can_edit_message(record.kind, membership.role, own=message.sender_id == caller.user_id)
    await _check_not_blocked(caller, record, services)
    if message.deleted_at is not None:
        raise NotFound("this message was deleted")
    text = await services.send_rules.apply_to_edit(message, command.text)
    outcome = await services.changes.make(change.Edit(record.id, command.seq, text))
    if outcome.changed:
        edited = MessageEdited.model_construct(**outcome.message.__dict__)
        services.delivery.publish_change(record.id, command.seq, edited)
    (shown,) = await owned(caller.user_id, [outcome.message], services)
    return MessageReply(message=shown)


async def delete_message(caller: Caller, command: NameMessage, services: Services) -> Reply:
    """Take away all of a message but its place; again is no error. Raises: NotFound, Forbidden."""
    record, membership, message = await _find(caller, command, services)
    check_can_delete_message(record.kind, membership.role, own=message.sender_id == caller.user_id)
    outcome = await services.changes.make(change.Delete(record.id, command.seq, caller.user_id))
    if outcome.changed:
        deleted = MessageDeleted(
            room_id=record.id,
            message_id=message.message_id,
            seq=command.seq,
            by=caller.user_id,
            deleted_at=outcome.at,
        )
        services.delivery.publish_change(record.id, command.seq, deleted)
        if message.mentions:
            services.notifier.deleted(message)
        await _tell_unread(message, services)
        if outcome.pins_changed:
            await _tell_pinned(caller, record.id, command.seq, False, services)
    return Reply()


async def react(caller: Caller, command: React, services: Services) -> ReactionReply:
    """Set one's emoji on a message, or take it back; a user counts once an emoji.

    Raises: NotFound, also for a deleted message; Forbidden, as in `edit_message`; Conflict for too many emoji.
    """
    record, _, message = await _find(caller, command, services)
    await _check_not_blocked(caller, record, services)
    outcome = await services.changes.make(
        change.React(record.id, command.seq, caller.user_id, command.emoji, command.remove)
    )
    if outcome.changed:
        reaction = MessageReaction(
            room_id=record.id,
            seq=command.seq,
            message_id=message.message_id,
            user_id=caller.user_id,
            emoji=command.emoji,
            removed=command.remove,
            reactions=outcome.message.reactions,
            at=outcome.at,
        )
        services.delivery.publish_change(record.id, command.seq, reaction)
    return ReactionReply(reactions=outcome.message.reactions, my_reactions=outcome.my_reactions)


async def pin_message(caller: Caller, command: PinMessage, services: Services) -> PinReply:
    """Show a message on top of its room, or no longer. Raises: NotFound, Forbidden; Conflict for too many pins."""
    record, membership, _ = await _find(caller, command, services)
    check_can_pin(record.kind, membership.role)
    outcome = await services.changes.make(change.Pin(record.id, command.seq, command.pinned))
    if outcome.changed:
        await _tell_pinned(caller, record.id, command.seq, command.pinned, services)
    return PinReply(pins=outcome.pins)


async def _find(caller: Caller, command: NameMessage, services: Services) -> tuple[RoomRecord, Membership, Message]:
    """Raises: NotFound, Forbidden for a channel that the caller has not joined."""
    (record, membership), message = await asyncio.gather(
        find_joined_room(caller.user_id, command.room_id, services), services.log.get(command.room_id, command.seq)
    )
    if message is None:
        raise NotFound("there is no such message in this room")
    return record, membership, message


async def _check_not_blocked(caller: Caller, record: RoomRecord, services: Services) -> None:
    """An edit or a reaction speaks to the other person of a direct room as a message does. Raises: Forbidden."""
    peer = record.peer_of(caller.user_id)
    if peer is not None and peer in await services.block_cache.between(caller.user_id, peer):
        raise Forbidden("this user does not take messages from you")


async def _tell_pinned(caller: Caller, room_id: str, seq: int, pinned: bool, services: Services) -> None:
    told = MessagePinned(room_id=room_id, seq=seq, pinned=pinned, by=caller.user_id)
    services.delivery.publish_change(room_id, seq, told)
    record = await services.rooms.get(room_id)
    if record is not None:
        await tell_room_updated(record, services)


async def _tell_unread(deleted: Message, services: Services) -> None:
    """In a small room tell everyone to whom the message was unread, in a large one those whom it mentioned."""
    members = await services.members.list(deleted.room_id, None, TOLD_MAX + 1)
    if len(members) <= TOLD_MAX:
        user_ids = {member.user_id for member in members if member.read_seq < deleted.seq}
    else:
        user_ids = set(deleted.mentions) - {ROOM_MENTION}
    tell_unread(user_ids - {deleted.sender_id}, deleted.room_id, services)
