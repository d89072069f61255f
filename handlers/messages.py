"""Sending and reading messages (wire contract, section 4)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from auth.caller import Caller
from auth.permissions import check_can_mention_room, not_a_member
from handlers.owned_messages import fitting_messages, owned
from handlers.rooms import announce_direct_room
from handlers.services import Services
from protocol.commands import ROOM_MENTION, ReadHistory, SendMessage
from protocol.errors import NotFound
from protocol.replies import AnyReply, EncodedReply, HistoryPage, SendReply
from protocol.resources import Message
from protocol.types import RoomKind, iso_utc
from storage.lane import Appended
from storage.messages import Draft, as_message, payload_digest

Answer = Callable[[AnyReply | Coroutine[Any, Any, AnyReply] | Exception], None]


async def send_message(caller: Caller, command: SendMessage, services: Services) -> Awaitable[SendReply | EncodedReply]:
    """Store a message, deliver it, and say which place it took.

    When this returns, the message has its place in the room's order; what it returns waits for the commit.
    Raises: NotFound, Forbidden, RateLimited, Unavailable; the awaitable: Conflict, Unavailable.
    """
    await _check_may_send(caller, command.room_id, services)
    if command.attachments:
        raise NotFound("there is no such upload")
    if command.reply_to is not None and not await services.log.exists(command.room_id, command.reply_to):
        raise NotFound("replyTo: there is no such message in this room")
    mentions = await _known_mentions(caller, command, services) if command.mentions else []
    text = command.text
    if not services.send_rules.none_apply(caller.user_id, command.room_id):
        text = await services.send_rules.apply(caller, command)
        # That may have taken its time: who was sent out meanwhile is no member now.
        await _check_may_send(caller, command.room_id, services)
    services.typing.ended(command.room_id, caller.user_id)
    return _deliver(services.log.append(_draft(caller, command, text, mentions)), caller, services)


def send_at_once(caller: Caller, command: SendMessage, services: Services, answer: Answer) -> bool:
    """Send a plain message by one who may, as far as this node knows without a wait; False leaves it to send_message.

    `answer` is told the reply, what is still to be awaited for it, or the error.
    """
    room_id = command.room_id
    if (
        command.attachments
        or command.mentions
        or command.reply_to is not None
        or not services.fanout.is_in(caller.session_id, room_id)
        or not services.send_rules.none_apply(caller.user_id, room_id)
    ):
        return False
    services.typing.ended(room_id, caller.user_id)
    services.log.append_then(
        _draft(caller, command, command.text, []), partial(_settled, caller=caller, services=services, answer=answer)
    )
    return True


def _settled(outcome: Appended | Exception, *, caller: Caller, services: Services, answer: Answer) -> None:
    if isinstance(outcome, Exception):
        answer(outcome)
        return
    message, reply = _publish(outcome, caller, services)
    if outcome.duplicate or message.seq == 1:
        answer(_complete(message, reply, outcome.duplicate, caller, services))
    else:
        answer(reply)


def _draft(caller: Caller, command: SendMessage, text: str | None, mentions: list[str]) -> Draft:
    return Draft(
        room_id=command.room_id,
        sender_id=caller.user_id,
        client_id=command.client_id,
        text=text,
        reply_to=command.reply_to,
        mentions=mentions,
        metadata=command.metadata,
        digest=payload_digest(
            [command.text, command.reply_to, command.attachments, command.mentions, command.metadata]
        ),
        session_id=caller.session_id,
    )


async def _deliver(commit: Awaitable[Appended], caller: Caller, services: Services) -> SendReply | EncodedReply:
    """Publish what is durable now, and say which place it took."""
    appended = await commit
    message, reply = _publish(appended, caller, services)
    return await _complete(message, reply, appended.duplicate, caller, services)


def _publish(appended: Appended, caller: Caller, services: Services) -> tuple[Message, EncodedReply]:
    """Deliver what is durable now; returns it, and the reply to its first sender.

    A repeated message is published again, which heals a crash between the commit and the first publish.
    """
    message = as_message(appended.document)
    created_at = iso_utc(message.created_at)
    message_json = message.wire_json() if appended.duplicate else Message.encode(message, created_at)
    services.delivery.publish(message, message_json, skip=caller.session_id)
    if message.mentions:
        services.notifier.mentioned(message)
    return message, SendReply.encode(message, message_json, created_at)


async def _complete(
    message: Message, reply: EncodedReply, duplicate: bool, caller: Caller, services: Services
) -> SendReply | EncodedReply:
    """The reply to a message that is out; behind a direct room's first one its other side is shown the room."""
    if message.seq == 1:
        record = await services.rooms.get(message.room_id)
        if record is not None and record.kind is RoomKind.DIRECT:
            await announce_direct_room(record, services)
    if duplicate:
        (shown,) = await owned(caller.user_id, [message], services)
        return SendReply(
            message_id=message.message_id,
            seq=message.seq,
            created_at=message.created_at,
            duplicate=True,
            message=shown,
        )
    return reply


async def _check_may_send(caller: Caller, room_id: str, services: Services) -> None:
    """A session in the room's live channel is a member's; otherwise the store knows. Raises: NotFound, Forbidden."""
    if services.fanout.is_in(caller.session_id, room_id):
        return
    with services.fanout.entering(caller.user_id) as expelled:
        await _check_member(caller.user_id, room_id, services)
        if room_id in expelled:
            raise NotFound
        if caller.session_id is not None:
            # A member whose session the bus has not told of it yet.
            await services.fanout.enter_rooms(caller.session_id, [room_id])


async def _check_member(user_id: str, room_id: str, services: Services) -> None:
    """Raises: NotFound for a room that this user may not see, Forbidden for a channel they have not joined."""
    membership, record = await asyncio.gather(services.members.get(room_id, user_id), services.rooms.get(room_id))
    if record is None:
        raise NotFound
    if membership is None:
        raise not_a_member(record.kind)


async def _known_mentions(caller: Caller, command: SendMessage, services: Services) -> list[str]:
    """The mentions that count: members, and `@room` from those who may."""
    if ROOM_MENTION in command.mentions:
        record, membership = await asyncio.gather(
            services.rooms.get(command.room_id), services.members.get(command.room_id, caller.user_id)
        )
        if record is None:
            raise NotFound
        check_can_mention_room(record.kind, membership.role if membership else None)
    members = await services.members.are_members(command.room_id, command.mentions)
    return [mention for mention in command.mentions if mention == ROOM_MENTION or mention in members]


async def read_history(caller: Caller, command: ReadHistory, services: Services) -> HistoryPage:
    """A page of a room's messages, ascending. Raises: NotFound, Forbidden."""
    await _check_member(caller.user_id, command.room_id, services)
    tail = await services.log.tail(command.room_id)
    room_id, limit = command.room_id, command.limit
    if command.around is not None:
        older = await services.log.between(room_id, 0, command.around, limit // 2, newest=True) if limit > 1 else []
        newer = await services.log.between(room_id, command.around - 1, tail + 1, limit - len(older))
        messages = fitting_messages(older + newer, from_end=False)
        has_more = bool(messages) and (messages[0].seq > 1 or messages[-1].seq < tail)
    elif command.after is not None:
        messages = fitting_messages(await services.log.between(room_id, command.after, tail + 1, limit), from_end=False)
        has_more = bool(messages) and messages[-1].seq < tail
    else:
        before = min(command.before or tail + 1, tail + 1)
        messages = fitting_messages(await services.log.between(room_id, 0, before, limit, newest=True), from_end=True)
        has_more = bool(messages) and messages[0].seq > 1
    shown = await owned(caller.user_id, messages, services)
    return HistoryPage(messages=shown, has_more=has_more, last_seq=tail)
