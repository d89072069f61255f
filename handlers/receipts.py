"""What has been delivered and read: a member's watermarks, and who has a message (wire contract, section 4)."""

from collections.abc import Sequence

from auth.caller import Caller
from auth.permissions import not_a_member
from handlers.badges import tell_unread
from handlers.messages import Answer
from handlers.pages import decode_cursor, encode_cursor, moment_key, parse_moment_key
from handlers.room_sizes import RoomSizes
from handlers.rooms import find_joined_room
from handlers.services import Services
from protocol.commands import ListReceipts, ReachSeq
from protocol.errors import NotFound
from protocol.events import DeliveredUpTo, ReadUpTo
from protocol.replies import DeliveredReply, ReadReply, ReceiptsPage
from protocol.resources import Reached
from storage.members import Membership
from storage.receipts import Receipt


async def mark_delivered(caller: Caller, command: ReachSeq, services: Services) -> DeliveredReply:
    """The caller's devices have all messages up to this one. Raises: NotFound, Forbidden, Unavailable."""
    membership = await _find_membership(caller, command.room_id, services)
    seq = await _within_room(command, services)
    return DeliveredReply(delivered_seq=services.members.receipts.advance(membership, delivered_seq=seq).delivered_seq)


async def mark_read(caller: Caller, command: ReachSeq, services: Services) -> ReadReply:
    """The caller has read all messages up to this one. Raises: NotFound, Forbidden, Unavailable."""
    membership = await _find_membership(caller, command.room_id, services)
    seq = await _within_room(command, services)
    membership = services.members.receipts.advance(membership, read_seq=seq)
    state = (await services.unread.of([membership]))[command.room_id]
    return ReadReply(read_seq=membership.read_seq, unread=state.unread, mentions=state.mentions)


def mark_delivered_at_once(caller: Caller, command: ReachSeq, services: Services, answer: Answer) -> bool:
    """The same for a member of whom, and of whose room, this node knows enough without a wait; else False."""
    membership = _known_membership(caller, command, services)
    if membership is None:
        return False
    stands = services.members.receipts.advance(membership, delivered_seq=command.seq)
    answer(DeliveredReply(delivered_seq=stands.delivered_seq))
    return True


def mark_read_at_once(caller: Caller, command: ReachSeq, services: Services, answer: Answer) -> bool:
    """The same for a member of whom, and of whose room, this node knows enough without a wait; else False."""
    membership = _known_membership(caller, command, services)
    if membership is None:
        return False
    read_seq = max(membership.read_seq, command.seq)
    state = services.unread.at(command.room_id, caller.user_id, read_seq)
    if state is None:
        return False
    services.members.receipts.advance(membership, read_seq=read_seq)
    answer(ReadReply(read_seq=read_seq, unread=state.unread, mentions=state.mentions))
    return True


async def list_receipts(caller: Caller, command: ListReceipts, services: Services) -> ReceiptsPage:
    """Who has a message, and who has read it, but for its sender. Raises: NotFound, Forbidden, ValidationFailed."""
    after = decode_cursor(command.cursor, parse_moment_key)
    await find_joined_room(caller.user_id, command.room_id, services)
    message = await services.log.get(command.room_id, command.seq)
    if message is None:
        raise NotFound("there is no such message in this room")
    reached = await services.members.receipts.reached(command.room_id, command.seq, after, command.limit + 1)
    shown = reached[: command.limit]
    others = [membership for membership in shown if membership.user_id != message.sender_id]
    more = len(shown) < len(reached)
    return ReceiptsPage(
        read_by=[Reached(user_id=m.user_id, at=m.read_at) for m in others if m.read_at and m.read_seq >= command.seq],
        delivered_to=[Reached(user_id=m.user_id, at=m.delivered_at) for m in others if m.delivered_at],
        next_cursor=encode_cursor(moment_key(shown[-1].joined_at), shown[-1].user_id) if more else None,
    )


async def publish_receipts(receipts: Sequence[Receipt], sizes: RoomSizes, services: Services) -> None:
    """Tell rooms and devices of watermarks that have just been written; large rooms are spared."""
    small = await sizes.small(receipt.room_id for receipt in receipts)
    for receipt in receipts:
        room_id, user_id, read, delivered = receipt.room_id, receipt.user_id, receipt.read, receipt.delivered
        if read is not None:
            tell_unread([user_id], room_id, services)
        if room_id not in small:
            continue
        if read is not None:
            services.fanout.to_room(room_id, ReadUpTo(room_id=room_id, user_id=user_id, seq=read.seq, at=read.at))
        if delivered is not None and (read is None or delivered.seq > read.seq):
            event = DeliveredUpTo(room_id=room_id, user_id=user_id, seq=delivered.seq, at=delivered.at)
            services.fanout.to_room(room_id, event)


async def _find_membership(caller: Caller, room_id: str, services: Services) -> Membership:
    """The caller's place in a room. Raises: NotFound for a room that they may not see, Forbidden."""
    if services.fanout.is_in(caller.session_id, room_id):
        membership = await services.member_cache.get(room_id, caller.user_id)
        if membership is not None and services.fanout.is_in(caller.session_id, room_id):
            return membership
    membership = await services.members.get(room_id, caller.user_id)
    record = await services.rooms.get(room_id)
    if record is None:
        raise NotFound
    if membership is None:
        raise not_a_member(record.kind)
    return membership


def _known_membership(caller: Caller, command: ReachSeq, services: Services) -> Membership | None:
    """The caller's place in a room that has this seq, as far as that is known here without a wait."""
    last = services.delivery.last(command.room_id)
    if last is None or last < command.seq or not services.fanout.is_in(caller.session_id, command.room_id):
        return None
    return services.member_cache.peek(command.room_id, caller.user_id)


async def _within_room(command: ReachSeq, services: Services) -> int:
    """The seq, or the room's last one if that is lower; the store knows what has not come here yet."""
    last = services.delivery.last(command.room_id)
    if last is None or last < command.seq:
        last = await services.log.tail(command.room_id)
    return min(command.seq, last)
