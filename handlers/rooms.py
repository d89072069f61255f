"""Rooms as their members see them: making, changing, deleting and listing them (wire contract, section 3)."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from auth.caller import Caller
from auth.permissions import check_can_delete_room, check_can_update, not_a_member
from handlers.admission import admit, welcome
from handlers.pages import PAGE_MAX_BYTES, decode_cursor, encode_cursor, fitting, moment_key, parse_moment_key
from handlers.services import Services
from protocol.commands import CreateRoom, InRoom, ListRooms, UpdateRoom
from protocol.errors import NotFound, RateLimited, ValidationFailed
from protocol.events import RoomAdded, RoomDeleted, RoomRemoved, RoomUpdated
from protocol.replies import Reply, RoomReply, RoomsPage
from protocol.resources import Room, RoomSummary
from protocol.types import Role, RoomKind
from storage.direct_quotas import STRANGERS_PER_DAY
from storage.members import Membership
from storage.room_states import RoomState
from storage.rooms import NewRoom, RoomRecord

FIRST_SEQ = 1


async def create_room(caller: Caller, command: CreateRoom, services: Services) -> RoomReply:
    """Make a room with the caller as owner, or find the direct room that the two have.

    People who have blocked the caller do not become members, and the caller is not told so.
    Raises: Conflict for an external id or client id used before; ValidationFailed for a direct room with oneself;
    RateLimited for one stranger too many.
    """
    if command.kind is RoomKind.DIRECT:
        return await _open_direct_room(caller, command.member_ids[0], services)
    others = [user_id for user_id in command.member_ids if user_id != caller.user_id]
    unwilling = await services.blocks.blockers_among(others, caller.user_id) if others else frozenset()
    new = NewRoom(
        kind=command.kind,
        created_by=caller.user_id,
        member_ids=others,
        left_out=unwilling,
        title=command.title,
        metadata=command.metadata,
        external_id=command.external_id,
        client_id=command.client_id,
    )
    record, is_new = await services.rooms.create(new)
    others = [user_id for user_id in others if user_id not in unwilling]
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
    await _check_may_open(caller.user_id, peer_id, services)
    record, newly_opened = await services.rooms.create_direct(caller.user_id, peer_id)
    room = await see_room(caller.user_id, record.id, services)
    await admit([caller.user_id, peer_id], record.id, services)
    if newly_opened:
        services.fanout.to_user(caller.user_id, RoomAdded(room=room))
    return RoomReply(room=room)


async def _check_may_open(user_id: str, peer_id: str, services: Services) -> None:
    """Those who share a room may always open one for themselves; strangers are limited. Raises: RateLimited."""
    exists, share_a_room = await asyncio.gather(
        services.rooms.has_direct(user_id, peer_id), services.members.share_a_room(user_id, peer_id)
    )
    if exists or share_a_room:
        return
    wait = await services.direct_quotas.take(user_id, peer_id)
    if wait is not None:
        raise RateLimited(
            f"at most {STRANGERS_PER_DAY} new direct rooms a day with people who share no room with you",
            retry_after_ms=max(1, wait // timedelta(milliseconds=1)),
        )


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
    if command.slow_mode_seconds is not None:
        await services.send_rules.changed(record.id)
    await tell_room_updated(updated, services)
    return RoomReply(room=await see_room(caller.user_id, record.id, services))


async def tell_room_updated(record: RoomRecord, services: Services) -> None:
    """Tell a room's members what it is like now."""
    member_count = await services.members.count(record.id)
    services.fanout.to_room(
        record.id,
        RoomUpdated(
            room_id=record.id,
            title=record.title,
            metadata=record.metadata,
            slow_mode_seconds=record.slow_mode_seconds,
            pins=list(record.pins),
            member_count=member_count,
            updated_at=record.updated_at,
        ),
    )


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
    await services.changes.drop_room(record.id)
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
    now = services.clock()
    total_unread = sum(room.unread for room in rooms if room.muted_until is None or room.muted_until <= now)

    def page(shown: list[RoomSummary]) -> RoomsPage:
        more = len(shown) < len(rest)
        next_cursor = encode_cursor(moment_key(shown[-1].updated_at), shown[-1].room_id) if more else None
        return RoomsPage(rooms=shown, next_cursor=next_cursor, total_unread=total_unread)

    whole = page(rest[:limit])
    return whole if not rest or len(whole.wire_json()) <= PAGE_MAX_BYTES else page(fitting(rest[:limit]))


async def summaries(user_id: str, memberships: Sequence[Membership], services: Services) -> list[RoomSummary]:
    """Someone's rooms as lists show them, newest activity first, in two reads however many there are.

    A direct room without messages is left out unless this user opened it.
    """
    records, states = await asyncio.gather(
        services.room_records.get_many([membership.room_id for membership in memberships]),
        services.unread.of(memberships),
    )
    # Who has opened a direct room matters until it has messages, and is not remembered.
    silent = {room_id for room_id, record in records.items() if record.pair and not states[room_id].last_seq}
    opened = await services.rooms.get_many(list(silent)) if silent else {}
    rooms = []
    for membership in memberships:
        # A membership that outlives its room for a moment is no room.
        record, state = records.get(membership.room_id), states[membership.room_id]
        if record is None or (membership.room_id in silent and not _has_opened(opened.get(record.id), user_id)):
            continue
        rooms.append(RoomSummary(**_summary_fields(record, membership, state)))
    return sorted(rooms, key=lambda room: (room.updated_at, room.room_id), reverse=True)


async def see_room(user_id: str, room_id: str, services: Services) -> Room:
    """One room in full, as this member sees it now. Raises: NotFound, Forbidden."""
    place = await services.places.look(room_id, [user_id], counted=True)
    return await describe(*_joined(place.record, place.memberships.get(user_id)), place.member_count, services)


async def describe(record: RoomRecord, membership: Membership, member_count: int, services: Services) -> Room:
    """A room in full, as this member sees it now."""
    states = await services.unread.of([membership])
    return Room(
        **_summary_fields(record, membership, states[record.id]),
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
    place = await services.places.look(room_id, [user_id])
    if place.record is None:
        raise NotFound
    return place.record, place.memberships.get(user_id)


async def find_joined_room(user_id: str, room_id: str, services: Services) -> tuple[RoomRecord, Membership]:
    """A room that this user is a member of. Raises: NotFound; Forbidden for a channel that they have not joined."""
    return _joined(*await find_room(user_id, room_id, services))


def _joined(record: RoomRecord | None, membership: Membership | None) -> tuple[RoomRecord, Membership]:
    if record is None:
        raise NotFound
    if membership is None:
        raise not_a_member(record.kind)
    return record, membership


def _has_opened(record: RoomRecord | None, user_id: str) -> bool:
    return record is not None and user_id in record.opened_by


def _summary_fields(record: RoomRecord, membership: Membership, state: RoomState) -> dict[str, Any]:
    return {
        "room_id": record.id,
        "kind": record.kind,
        "title": record.title,
        "peer_id": record.peer_of(membership.user_id),
        "last_seq": state.last_seq,
        "read_seq": membership.read_seq,
        "unread": state.unread,
        "mentions": state.mentions,
        "muted_until": membership.muted_until,
        "last_message": state.last_message,
        "updated_at": state.last_message.created_at if state.last_message else record.created_at,
    }
