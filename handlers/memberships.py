"""Coming, going and standing in a room (wire contract, section 3)."""

import asyncio
from collections.abc import Sequence

from auth.caller import Caller
from auth.permissions import (
    check_can_ban,
    check_can_invite,
    check_can_kick,
    check_can_leave,
    check_can_set_role,
    check_can_unban,
    successor,
)
from handlers.admission import admit, send_out, tell_role, welcome
from handlers.badges import tell_unread
from handlers.pages import decode_cursor, encode_cursor, fitting, moment_key, parse_moment_key
from handlers.rooms import describe, find_joined_room, find_room, see_room
from handlers.services import Services
from protocol.commands import InRoom, InviteMembers, ListMembers, MuteRoom, NameMember, SetRole
from protocol.errors import Forbidden, NotFound, ValidationFailed
from protocol.events import RoomAdded, RoomRemoved
from protocol.replies import InviteReply, MembersPage, MuteReply, Reply, RoomReply
from protocol.resources import Member
from protocol.types import RemovalReason, Role, RoomKind
from storage.places import Place
from storage.rooms import RoomRecord
from storage.users import Profile

NO_PROFILE = Profile(name=None, avatar=None)


async def list_members(caller: Caller, command: ListMembers, services: Services) -> MembersPage:
    """A room's members, longest standing first. Raises: NotFound, Forbidden; ValidationFailed for a bad cursor."""
    after = decode_cursor(command.cursor, parse_moment_key)
    await find_joined_room(caller.user_id, command.room_id, services)
    memberships = await services.members.list(command.room_id, after, command.limit + 1)
    shown = memberships[: command.limit]
    profiles = await services.users.profiles([membership.user_id for membership in shown])
    page = fitting(
        [
            Member(
                user_id=membership.user_id,
                name=profiles.get(membership.user_id, NO_PROFILE).name,
                avatar=profiles.get(membership.user_id, NO_PROFILE).avatar,
                role=membership.role,
                joined_at=membership.joined_at,
                read_seq=membership.read_seq,
                delivered_seq=membership.delivered_seq,
            )
            for membership in shown
        ]
    )
    more = len(page) < len(memberships)
    return MembersPage(
        members=page, next_cursor=encode_cursor(moment_key(page[-1].joined_at), page[-1].user_id) if more else None
    )


async def join_room(caller: Caller, command: InRoom, services: Services) -> RoomReply:
    """Become a member of a channel; for members of any room, look at it.

    Raises: NotFound for a room that the caller may not see; Forbidden for who is banned from a channel.
    """
    record, tail = await _find_with_tail(command.room_id, services)
    if record is None:
        raise NotFound
    if record.kind is not RoomKind.CHANNEL:
        return RoomReply(room=await see_room(caller.user_id, record.id, services))
    services.watch_rights.know(record)
    place, is_new = await _enter_channel(caller, record, tail, services)
    membership = place.memberships.get(caller.user_id)
    if place.record is None or membership is None:
        raise NotFound
    room = await describe(place.record, membership, place.member_count, services)
    if is_new:
        welcome(room, [caller.user_id], services)
    return RoomReply(room=room)


async def _enter_channel(caller: Caller, record: RoomRecord, tail: int, services: Services) -> tuple[Place, bool]:
    """Store and admit a member, and say whether they are a new one. Raises: Forbidden for who is banned.

    Also who is a member already is admitted: the node that stored it may have died before it admitted anyone.
    """
    if services.fanout.is_in(caller.session_id, record.id):
        # A member, when last heard of: then there is nothing to store.
        place = await admit([caller.user_id], record.id, services, tail=tail)
        if place.memberships:
            return place, False
    joined = await services.members.join(record.id, caller.user_id, read_seq=tail)
    if joined.role is None:
        raise Forbidden("you are banned from this room")
    return await admit([caller.user_id], record.id, services, tail=tail), joined.is_new


async def _find_with_tail(room_id: str, services: Services) -> tuple[RoomRecord | None, int]:
    """A room and its last seq: from memory where it is open here, for whoever joins is shown it again afterwards."""
    tail = services.delivery.certain([room_id]).get(room_id)
    if tail is None:
        place = await services.places.look(room_id, [], with_tail=True)
        return place.record, place.tail
    return (await services.room_records.get_many([room_id])).get(room_id), tail


async def invite_members(caller: Caller, command: InviteMembers, services: Services) -> InviteReply:
    """Make others members. Raises: NotFound, Forbidden.

    Not in `added` are those who are members already, banned ones, and people who have blocked the caller.
    """
    record, membership = await find_room(caller.user_id, command.room_id, services)
    check_can_invite(record.kind, membership.role if membership else None)
    unwilling, tail = await asyncio.gather(
        services.blocks.blockers_among(command.user_ids, caller.user_id), services.log.tail(record.id)
    )
    willing = [user_id for user_id in command.user_ids if user_id not in unwilling]
    joins = await asyncio.gather(*(services.members.join(record.id, user_id, read_seq=tail) for user_id in willing))
    new = [user_id for user_id, joined in zip(willing, joins, strict=True) if joined.is_new]
    place = await admit(new, record.id, services, tail=tail)
    added = [user_id for user_id in new if user_id in place.memberships]
    if added:
        welcome(await see_room(added[0], record.id, services), added, services)
    return InviteReply(added=added)


async def leave_room(caller: Caller, command: InRoom, services: Services) -> Reply:
    """End one's own membership; the last owner's room passes to the next in line. Raises: NotFound, Forbidden."""
    record, membership = await find_room(caller.user_id, command.room_id, services)
    check_can_leave(record.kind, membership.role if membership else None)
    heir = await services.members.ownership.leave(record.id, caller.user_id, successor)
    await send_out(caller, record.id, caller.user_id, "left", services)
    if heir is not None:
        tell_role(record.id, heir, Role.OWNER, caller.user_id, services)
    return Reply()


async def kick_member(caller: Caller, command: NameMember, services: Services) -> Reply:
    """End someone's membership. Raises: NotFound, Forbidden; ValidationFailed for oneself."""
    _refuse_oneself(caller, command, "use room:leave to leave a room yourself")
    record, _ = await find_joined_room(caller.user_id, command.room_id, services)
    await services.members.ownership.kick(
        record.id,
        caller.user_id,
        command.user_id,
        lambda actor, target: check_can_kick(record.kind, actor, target),
    )
    await send_out(caller, record.id, command.user_id, "kicked", services)
    return Reply()


async def ban_member(caller: Caller, command: NameMember, services: Services) -> Reply:
    """Shut someone out, member or not, until unbanned. Raises: NotFound, Forbidden; ValidationFailed for oneself."""
    _refuse_oneself(caller, command, "must name someone else")
    record, _ = await find_joined_room(caller.user_id, command.room_id, services)
    was_member = await services.members.ownership.ban(
        record.id,
        caller.user_id,
        command.user_id,
        lambda actor, target: check_can_ban(record.kind, actor, target),
    )
    if was_member:
        await send_out(caller, record.id, command.user_id, "banned", services)
    return Reply()


async def unban_member(caller: Caller, command: NameMember, services: Services) -> Reply:
    """Lift a ban. Raises: NotFound, also when there is none; Forbidden."""
    record, membership = await find_room(caller.user_id, command.room_id, services)
    check_can_unban(record.kind, membership.role if membership else None)
    if not await services.members.unban(record.id, command.user_id):
        raise NotFound("this user is not banned")
    return Reply()


async def set_role(caller: Caller, command: SetRole, services: Services) -> Reply:
    """Give a member a role. Raises: NotFound; Forbidden, also when it would leave the room no owner."""
    record, _ = await find_joined_room(caller.user_id, command.room_id, services)
    changed = await services.members.ownership.set_role(
        record.id,
        caller.user_id,
        command.user_id,
        command.role,
        lambda actor, target: check_can_set_role(record.kind, actor, target, command.role),
    )
    if changed:
        tell_role(record.id, command.user_id, command.role, caller.user_id, services)
    return Reply()


async def mute_room(caller: Caller, command: MuteRoom, services: Services) -> MuteReply:
    """Silence a room for oneself. Raises: NotFound, Forbidden."""
    await find_joined_room(caller.user_id, command.room_id, services)
    if not await services.members.mute(command.room_id, caller.user_id, command.until):
        raise NotFound
    tell_unread([caller.user_id], command.room_id, services)
    return MuteReply(muted_until=command.until)


def _refuse_oneself(caller: Caller, command: NameMember, message: str) -> None:
    if command.user_id == caller.user_id:
        raise ValidationFailed(details=[{"field": "userId", "message": message}])


async def tell_moved(user_id: str, entered: Sequence[str], left: Sequence[str], services: Services) -> None:
    """Tell a user's devices on this node of rooms that they are in, or out of, without having been told."""
    for room_id in left:
        record, is_banned = await asyncio.gather(
            services.rooms.get(room_id), services.members.is_banned(room_id, user_id)
        )
        reason: RemovalReason = "deleted" if record is None else "banned" if is_banned else "kicked"
        services.fanout.to_user_here(user_id, RoomRemoved(room_id=room_id, reason=reason))
    for room_id in entered:
        place = await services.places.look(room_id, [user_id], counted=True)
        membership = place.memberships.get(user_id)
        if place.record is None or membership is None:
            continue
        room = await describe(place.record, membership, place.member_count, services)
        if room.last_seq or not place.record.pair or user_id in place.record.opened_by:
            services.fanout.to_user_here(user_id, RoomAdded(room=room))
