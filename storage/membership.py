"""One person in one room: the record, and the document it is kept as."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from protocol.types import Role
from storage.mongo import Document

BANNED = "banned"
"""The role of who is no member and may not become one."""
MEMBER_ROLES = [role.value for role in Role]
Clock = Callable[[], datetime]
"""The time in UTC, in whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Membership:
    """One person in one room. Times are in UTC; the watermarks are seqs, 0 for none, with when they last moved."""

    room_id: str
    user_id: str
    role: Role
    joined_at: datetime
    read_seq: int
    delivered_seq: int
    muted_until: datetime | None
    read_at: datetime | None = None
    delivered_at: datetime | None = None


def member_key(room_id: str, user_id: str) -> str:
    """The `_id` of a member document; unambiguous, for a room id has no colon."""
    return f"{room_id}:{user_id}"


def new_member(room_id: str, user_id: str, role: Role, now: datetime, read_seq: int = 0) -> Document:
    """The document of someone who becomes a member now."""
    return {
        "_id": member_key(room_id, user_id),
        "roomId": room_id,
        "userId": user_id,
        "role": role.value,
        "joinedAt": now,
        "readSeq": read_seq,
        "deliveredSeq": read_seq,
        "mutedUntil": None,
    }


def as_membership(document: Document) -> Membership:
    """A member document, not one of a ban, as the rest of the server sees it."""
    return Membership(
        room_id=document["roomId"],
        user_id=document["userId"],
        role=Role(document["role"]),
        joined_at=document["joinedAt"],
        read_seq=document["readSeq"],
        delivered_seq=document["deliveredSeq"],
        muted_until=document["mutedUntil"],
        read_at=document.get("readAt"),
        delivered_at=document.get("deliveredAt"),
    )
