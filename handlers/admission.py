"""Letting stored members into a room's live channel, and sending out those who are none any more.

A membership that begins is stored, admitted, looked at again, then told; one that ends is stored, sent out, then told.
The second look closes a gap: a ban or a deletion at the same instant may have sent everybody out just before the
admission came.
"""

from collections.abc import Sequence
from dataclasses import replace

from auth.caller import Caller
from auth.permissions import successor
from handlers.services import Services
from protocol.events import MemberJoined, MemberLeft, MemberRoleChanged, RoomAdded, RoomRemoved
from protocol.resources import Room
from protocol.types import RemovalReason, Role
from storage.places import Place


async def admit(user_ids: Sequence[str], room_id: str, services: Services, *, tail: int | None = None) -> Place:
    """Let these people's devices into the live channel, then look again, and send out who is no member any more.

    Returns what the second look found, the members counted; `tail` is a seq that the room is known to have reached.
    """
    if not user_ids:
        return Place(None, {}, 0, 0)
    opened = await services.fanout.admit(user_ids, room_id, tail)
    try:
        with services.room_records.reading([room_id]) as keep:
            place = await services.places.look(room_id, user_ids, counted=True, with_tail=opened)
            if place.record is not None:
                keep(place.record)
        if opened:
            await services.delivery.catch_up(room_id, place.tail)
    except BaseException:
        if opened:
            services.fanout.gap(room_id)
        raise
    record, memberships = place.record, place.memberships
    if record is None:
        await services.members.forget(room_id, user_ids)
        memberships.clear()
    gone = [user_id for user_id in user_ids if user_id not in memberships]
    if gone:
        await services.fanout.expel(gone, room_id)
    if record is not None and record.ownerless:
        heir = await services.members.ownership.appoint_owner(room_id, successor)
        if heir is not None:
            tell_role(room_id, heir, Role.OWNER, heir, services)
            if heir in memberships:
                memberships[heir] = replace(memberships[heir], role=Role.OWNER)
    return place


async def send_out(caller: Caller, room_id: str, user_id: str, reason: RemovalReason, services: Services) -> None:
    """Close the live channel to someone whose membership has ended, then tell the room and them."""
    await services.fanout.expel([user_id], room_id)
    services.fanout.to_room(room_id, MemberLeft(room_id=room_id, user_id=user_id, by=caller.user_id))
    services.fanout.to_user(user_id, RoomRemoved(room_id=room_id, reason=reason))


def welcome(room: Room, user_ids: Sequence[str], services: Services) -> None:
    """Tell new members' devices of their room, then the room of them; `room` is as each of them sees it."""
    added = RoomAdded(room=room)
    for user_id in user_ids:
        services.fanout.to_user(user_id, added)
    for user_id in user_ids:
        services.fanout.to_room(room.room_id, MemberJoined(room_id=room.room_id, user_id=user_id, role=room.role))


def tell_role(room_id: str, user_id: str, role: Role, by: str, services: Services) -> None:
    """Tell a room that a member has another role."""
    services.fanout.to_room(room_id, MemberRoleChanged(room_id=room_id, user_id=user_id, role=role, by=by))
