"""Rooms as their members see them: making, changing, deleting and listing them (wire contract, section 3)."""

import asyncio
from collections.abc import Sequence

from auth.caller import Caller
from auth.permissions import check_can_delete_room, check_can_update, not_a_member
from handlers.admission import admit, welcome
from handlers.pages import decode_cursor, encode_cursor, fitting, moment_key, parse_moment_key
from handlers.services import Services
from protocol.commands import CreateRoom, InRoom, ListRooms, UpdateRoom
from protocol.errors import NotFound, ValidationFailed
from protocol.events import RoomAdded, RoomDeleted, RoomRemoved, RoomUpdated
from protocol.replies import Reply, RoomReply, RoomsPage
from protocol.resources import Room, RoomSummary
from protocol.types import Role, RoomKind
from storage.members import Membership
from storage.messages import RoomState
from storage.rooms import NewRoom, RoomRecord

FIRST_SEQ = 1


async def create_room(caller: Caller, command: CreateRoom, services: Services) -> RoomReply:
    """Make a room with the caller as owner, or find the direct room that the two have.

    Raises: Conflict for an external id or client id used before; ValidationFailed for a direct room with oneself.
    """
    if command.kind is RoomKind.DIRECT:
        return await _open_direct_room(caller, command.member_ids[0], services)
    others = [user_id for user_id in command.member_ids if user_id != caller.user_id]
    new = NewRoom(
        kind=command.kind,
        created_by=caller.user_id,
        member_ids=others,
        title=command.title,
        metadata=command.metadata,
        external_id=command.external_id,
        client_id=command.client_id,
    )
    record, is_new = await services.rooms.create(new)
    room = await see_room(caller.user_id, record.id, services)
    # Also when an earlier call made it: the node that stored it may have died before it admitted anyone.
    await admit([caller.user_id, *others] if is_new else [caller.user_id], record.id, services)
    if is_new:
        welcome(room, [caller.user_id], services)
        welcome(room.model_copy(update={"role": Role.MEMBER}), others, services)
    return RoomReply(room=room)


async def _open_direct_room(caller: Caller, peer_id: str, services: Services) -> RoomReply:
    if peer_id == caller.user_id:
        raise ValidationFailed(details=[{"field": "memberIds", "message": "must name someone else"}])
    record, newly_opened = await services.rooms.create_direct(caller.user_id, peer_id)
    room = await see_room(caller.user_id, record.id, services)
    await admit([caller.user_id, peer_id], record.id, services)
    if newly_opened:
        services.fanout.to_user(caller.user_id, RoomAdded(room=room))
    return RoomReply(room=room)


async def announce_direct_room(record: RoomRecord, services: Services) -> None:
    """Show a direct room to whoever has not opened it; for its first message."""
    for user_id in set(record.pair) - set(record.opened_by):
        services.fanout.to_user(user_id, RoomAdded(room=await see_room(user_id, record.id, services)))


async def get_room(caller: Caller, command: InRoom, services: Services) -> RoomReply:
    """One room of the caller's. Raises: NotFound, Forbidden."""
    return RoomReply(room=await see_room(caller.user_id, command.room_id, services))


async def update_room(caller: Caller, command: UpdateRoom, services: Services) -> RoomReply:
    """Change a room's settings. Raises: NotFound, Forbidden."""
    record, membership = await find_room(caller.user_id, command.room_id, services)
    check_can_update(record.kind, membership.role if membership else None)
    updated = await services.rooms.update(
        record.id, title=command.title, metadata=command.metadata, slow_mode_seconds=command.slow_mode_seconds
    )
    if updated is None:
        raise NotFound
    room = await see_room(caller.user_id, record.id, services)
    services.fanout.to_room(
        record.id,
        RoomUpdated(
            room_id=updated.id,
            title=updated.title,
            metadata=updated.metadata,
            slow_mode_seconds=updated.slow_mode_seconds,
            pins=list(updated.pins),
            member_count=room.member_count,
            updated_at=updated.updated_at,
        ),
    )
    return RoomReply(room=room)


async def delete_room(caller: Caller, command: InRoom, services: Services) -> Reply:
    """Delete a room with its messages and memberships, for everyone and for good. Raises: NotFound, Forbidden."""
    record, membership = await find_room(caller.user_id, command.room_id, services)
    check_can_delete_room(record.kind, membership.role if membership else None)
    member_ids = await services.rooms.delete(record.id)
    services.fanout.to_room(record.id, RoomDeleted(room_id=record.id, by=caller.user_id))
    await services.fanout.close_room(record.id)
    for user_id in member_ids:
        services.fanout.to_user(user_id, RoomRemoved(room_id=record.id, reason="deleted"))
    await services.log.drop_room(record.id)
    return Reply()


async def list_rooms(caller: Caller, command: ListRooms, services: Services) -> RoomsPage:
    """The caller's rooms, newest activity first."""
    memberships = await services.members.memberships_of(caller.user_id)
    return await room_page(caller.user_id, memberships, command.cursor, command.limit, services)


async def room_page(
    user_id: str, memberships: Sequence[Membership], cursor: str | None, limit: int, services: Services
) -> RoomsPage:
    """A page of someone's rooms, newest activity first; `totalUnread` counts all that are not muted.

    Raises: ValidationFailed for a cursor that is none.
    """
    after = decode_cursor(cursor, parse_moment_key)
    rooms = await summaries(user_id, memberships, services) if memberships else []
    rest = [room for room in rooms if after is None or (room.updated_at, room.room_id) < after]
    page = fitting(rest[:limit])
    now = services.clock()
    return RoomsPage(
        rooms=page,
        next_cursor=encode_cursor(moment_key(page[-1].updated_at), page[-1].room_id) if len(page) < len(rest) else None,
        total_unread=sum(room.unread for room in rooms if room.muted_until is None or room.muted_until <= now),
    )


async def summaries(user_id: str, memberships: Sequence[Membership], services: Services) -> list[RoomSummary]:
    """Someone's rooms as lists show them, newest activity first, in two reads however many there are.

    A direct room without messages is left out unless this user opened it.
    """
    records, states = await asyncio.gather(
        services.rooms.get_many([membership.room_id for membership in memberships]),
        services.log.room_states(memberships),
    )
    rooms = []
    for membership in memberships:
        # A membership that outlives its room for a moment is no room.
        record, state = records.get(membership.room_id), states[membership.room_id]
        if record is not None and (state.last_seq or not record.pair or user_id in record.opened_by):
            rooms.append(_summary(record, membership, state))
    return sorted(rooms, key=lambda room: (room.updated_at, room.room_id), reverse=True)


async def see_room(user_id: str, room_id: str, services: Services) -> Room:
    """One room in full, as this member sees it now. Raises: NotFound, Forbidden."""
    return await describe(*await find_joined_room(user_id, room_id, services), services)


async def describe(record: RoomRecord, membership: Membership, services: Services) -> Room:
    """A room in full, as this member sees it now."""
    states, member_count = await asyncio.gather(
        services.log.room_states([membership]), services.members.count(record.id)
    )
    return Room(
        **dict(_summary(record, membership, states[record.id])),
        created_by=record.created_by,
        created_at=record.created_at,
        member_count=member_count,
        role=membership.role,
        metadata=record.metadata,
        slow_mode_seconds=record.slow_mode_seconds,
        pins=list(record.pins),
        first_seq=FIRST_SEQ,
        external_id=record.external_id,
    )


async def find_room(user_id: str, room_id: str, services: Services) -> tuple[RoomRecord, Membership | None]:
    """A room, and this user's place in it. Raises: NotFound without the room."""
    record, membership = await asyncio.gather(services.rooms.get(room_id), services.members.get(room_id, user_id))
    if record is None:
        raise NotFound
    return record, membership


async def find_joined_room(user_id: str, room_id: str, services: Services) -> tuple[RoomRecord, Membership]:
    """A room that this user is a member of. Raises: NotFound; Forbidden for a channel that they have not joined."""
    record, membership = await find_room(user_id, room_id, services)
    if membership is None:
        raise not_a_member(record.kind)
    return record, membership


def _summary(record: RoomRecord, membership: Membership, state: RoomState) -> RoomSummary:
    return RoomSummary(
        room_id=record.id,
        kind=record.kind,
        title=record.title,
        peer_id=record.peer_of(membership.user_id),
        last_seq=state.last_seq,
        read_seq=membership.read_seq,
        unread=state.unread,
        mentions=state.mentions,
        muted_until=membership.muted_until,
        last_message=state.last_message,
        updated_at=state.last_message.created_at if state.last_message else record.created_at,
    )
