"""What can be done to a message after it was sent, and what becomes of its document. Pure: no clock, no I/O."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from protocol.errors import Conflict, NotFound
from storage.mongo import Document

REACTIONS_MAX: Final = 50
"""Different emoji on one message: every reader gets their counts."""
PINS_MAX: Final = 100
"""Pinned messages of one room: every reader of the room gets them."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Another text."""

    room_id: str
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Nothing left but its place."""

    room_id: str
    seq: int
    user_id: str


@dataclass(frozen=True, slots=True)
class React:
    """A user's emoji, set or taken back."""

    room_id: str
    seq: int
    user_id: str
    emoji: str
    remove: bool


@dataclass(frozen=True, slots=True)
class Pin:
    """Shown on top of its room, or no longer."""

    room_id: str
    seq: int
    pinned: bool


Change = Edit | Delete | React | Pin
Reaction = tuple[str, str]
"""A user and an emoji."""


@dataclass(slots=True)
class MessageState:
    """A message as stored, with what is kept beside it.

    `reactions` holds at least those of the users that react now; `pins` are the room's, None when there is no room;
    `replaced` collects the texts that edits have replaced, each with the time from which it stood.
    """

    document: Document
    reactions: set[Reaction] = field(default_factory=set)
    pins: list[int] | None = None
    replaced: list[tuple[str | None, datetime]] = field(default_factory=list)

    def emoji_of(self, user_id: str) -> list[str]:
        """A user's emoji on this message, in the order in which the message got them."""
        return [emoji for emoji in self.document.get("reactions", ()) if (user_id, emoji) in self.reactions]


def apply(state: MessageState, change: Change, at: datetime) -> bool:
    """Make a change at this time; whether anything is different now.

    What was so already is no change: the same text, a second delete, a reaction that counts already.
    Raises: NotFound for what is done to a deleted message, Conflict when there is no room for more.
    """
    if isinstance(change, Pin):
        return _pin(state, change)
    if isinstance(change, Delete):
        changed = _delete(state, change, at)
    else:
        _check_not_deleted(state)
        changed = _edit(state, change, at) if isinstance(change, Edit) else _react(state, change)
    if changed:
        state.document["changedAt"] = at
    return changed


def _check_not_deleted(state: MessageState) -> None:
    if state.document.get("deletedAt") is not None:
        raise NotFound("this message was deleted")


def _edit(state: MessageState, change: Edit, at: datetime) -> bool:
    document = state.document
    if document["text"] == change.text:
        return False
    state.replaced.append((document["text"], document.get("editedAt") or document["createdAt"]))
    document |= {"text": change.text, "editedAt": at, "edits": document.get("edits", 0) + 1}
    return True


def _delete(state: MessageState, change: Delete, at: datetime) -> bool:
    """The digest stays, so that the same message sent again is known; its place in a thread is put aside."""
    document = state.document
    if document.get("deletedAt") is not None:
        return False
    for name in ("reactions", "editedAt", "edits", "pinned"):
        document.pop(name, None)
    document |= {"text": None, "mentions": [], "metadata": {}, "deletedAt": at, "deletedBy": change.user_id}
    document |= {"replyTo": None, "formerReplyTo": document["replyTo"]}
    state.reactions.clear()
    state.replaced.clear()
    if state.pins is not None:
        state.pins = [seq for seq in state.pins if seq != change.seq]
    return True


def _react(state: MessageState, change: React) -> bool:
    reaction = change.user_id, change.emoji
    if (reaction in state.reactions) is not change.remove:
        return False
    counts = dict(state.document.get("reactions", ()))
    if change.remove:
        state.reactions.discard(reaction)
        counts[change.emoji] -= 1
        if not counts[change.emoji]:
            del counts[change.emoji]
    else:
        if change.emoji not in counts and len(counts) >= REACTIONS_MAX:
            raise Conflict(f"a message has at most {REACTIONS_MAX} different reactions")
        state.reactions.add(reaction)
        counts[change.emoji] = counts.get(change.emoji, 0) + 1
    state.document["reactions"] = counts
    return True


def _pin(state: MessageState, change: Pin) -> bool:
    if state.pins is None:
        raise NotFound
    if change.pinned == (change.seq in state.pins):
        return False
    if change.pinned:
        _check_not_deleted(state)
        if len(state.pins) >= PINS_MAX:
            raise Conflict(f"a room has at most {PINS_MAX} pins; take one off first")
        state.pins = [*state.pins, change.seq]
        # Written, so that a delete of the message at the same instant meets this change.
        state.document["pinned"] = True
    else:
        state.pins = [seq for seq in state.pins if seq != change.seq]
        state.document.pop("pinned", None)
    return True
