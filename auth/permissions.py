"""What a member may do in a room (wire contract, section 3). Pure: the caller brings the roles.

A role of None means no member of the room, who is told NotFound, as if there were none; of a channel, which all may
see, Forbidden. In a direct room everyone counts as a plain member, whatever role is stored.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol, TypeVar

from protocol.errors import Forbidden, NotFound
from protocol.types import Role, RoomKind

_RANK = {role: rank for rank, role in enumerate(Role)}


def check_can_invite(kind: RoomKind, role: Role | None) -> None:
    """Members invite to groups and channels, nobody to a direct room.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.MEMBER)
    _check_not_direct(kind)


def check_can_leave(kind: RoomKind, role: Role | None) -> None:
    """Members leave groups and channels, nobody a direct room.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.MEMBER)
    _check_not_direct(kind)


def check_can_update(kind: RoomKind, role: Role | None) -> None:
    """Admins and owners change title, metadata and slow mode.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.ADMIN)


def check_can_pin(kind: RoomKind, role: Role | None) -> None:
    """Admins and owners pin and unpin.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.ADMIN)


def check_can_mention_room(kind: RoomKind, role: Role | None) -> None:
    """Admins and owners mention `@room`.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.ADMIN)


def check_can_edit_message(kind: RoomKind, role: Role | None, own: bool) -> None:
    """Everyone edits their own messages, nobody another's.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.MEMBER)
    if not own:
        raise Forbidden("only its sender may edit a message")


def check_can_delete_message(kind: RoomKind, role: Role | None, own: bool) -> None:
    """Everyone deletes their own messages, admins and owners any.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.MEMBER if own else Role.ADMIN)


def check_can_kick(kind: RoomKind, actor_role: Role | None, target_role: Role | None) -> None:
    """Admins and owners remove members; an admin cannot remove an owner.

    Raises:
        Forbidden, NotFound: see the module; NotFound also when the target is no member.
    """
    _check(kind, actor_role, Role.ADMIN)
    if target_role is None:
        raise NotFound("this user is not a member")
    _check(kind, actor_role, target_role)


def check_can_ban(kind: RoomKind, actor_role: Role | None, target_role: Role | None) -> None:
    """Admins and owners ban, also who is no member (now, or ever); an admin cannot ban an owner.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, actor_role, Role.ADMIN)
    if target_role is not None:
        _check(kind, actor_role, target_role)


def check_can_unban(kind: RoomKind, role: Role | None) -> None:
    """Admins and owners lift bans.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.ADMIN)


def check_can_set_role(kind: RoomKind, actor_role: Role | None, target_role: Role | None, new_role: Role) -> None:
    """Owners give any role to any member, themselves included. `new_role` is part of the question, not of the answer.

    Raises:
        Forbidden, NotFound: see the module; NotFound also when the target is no member.
    """
    _check(kind, actor_role, Role.OWNER)
    if target_role is None:
        raise NotFound("this user is not a member")


def check_can_delete_room(kind: RoomKind, role: Role | None) -> None:
    """Owners delete the room.

    Raises:
        Forbidden, NotFound: see the module.
    """
    _check(kind, role, Role.OWNER)


class Member(Protocol):
    """What succession looks at."""

    @property
    def user_id(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def joined_at(self) -> datetime: ...


M = TypeVar("M", bound=Member)


def successor(members: Iterable[M]) -> M | None:
    """Who of the remaining members becomes owner: the oldest admin, else the oldest member.

    None when an owner remains or nobody does. Every node comes to the same answer: equal times are decided by user id.
    """
    remaining = list(members)
    if any(member.role is Role.OWNER for member in remaining):
        return None
    return min(remaining, key=lambda member: (-_RANK[member.role], member.joined_at, member.user_id), default=None)


def not_a_member(kind: RoomKind) -> NotFound | Forbidden:
    """What someone is told who is no member: that there is no such room, or, of a channel, to join it first."""
    return Forbidden("join the channel first") if kind is RoomKind.CHANNEL else NotFound()


def _check(kind: RoomKind, role: Role | None, least: Role) -> None:
    if role is None:
        raise not_a_member(kind)
    effective = Role.MEMBER if kind is RoomKind.DIRECT else role
    if _RANK[effective] < _RANK[least]:
        raise Forbidden


def _check_not_direct(kind: RoomKind) -> None:
    if kind is RoomKind.DIRECT:
        raise Forbidden("a direct room always has the same two members")
