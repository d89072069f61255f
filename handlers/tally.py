"""One room's live messages, so that what is unread of them is counted without asking the store. Pure: no I/O.

What is unread above a watermark is the number of seqs above it, less those of the member's own messages and the
deleted ones; all of these are kept as ascending lists of seqs, so that a count is a few bisections.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from protocol.commands import ROOM_MENTION
from protocol.resources import PREVIEW_CODE_POINTS, LastMessage
from storage.room_states import NOTHING, Unread

if TYPE_CHECKING:
    Seqs = array[int]
else:
    # Python 3.11 has no such name at run time.
    Seqs = array


class Counted(NamedTuple):
    """What the store says is unread between a member's watermark and where a tally begins."""

    read_seq: int
    unread: Unread


class Tally:
    """The messages with `floor` < seq <= `last`, each appended in its turn, and the room's newest message.

    `changes` counts deletes and edits: what was read from the store across one may be older than it. `counted` is what
    was read for members who have not read up to the floor.
    """

    __slots__ = ("_deleted", "_mentions", "_newest", "_senders", "changes", "counted", "floor", "last")

    def __init__(self, last: int) -> None:
        self.floor = self.last = last
        self.changes = 0
        self.counted: dict[str, Counted] = {}
        self._newest: LastMessage | tuple[int, str, str | None, datetime] | None = None
        self._senders: dict[str, Seqs] = {}
        self._deleted: Seqs = array("Q")
        self._mentions: dict[str, Seqs] = {}

    @property
    def size(self) -> int:
        """What it holds: messages and counts, ten to some hundred bytes each."""
        return self.last - self.floor + len(self.counted)

    @property
    def newest(self) -> LastMessage | None:
        """The newest message; None when it is not known, or there is none."""
        if isinstance(self._newest, tuple):
            # Made when it is asked for: most messages are followed by the next one before that.
            seq, sender_id, text, created_at = self._newest
            self._newest = LastMessage.model_construct(seq=seq, sender_id=sender_id, text=text, created_at=created_at)
        return self._newest

    def know_newest(self, message: LastMessage) -> None:
        """Take the newest message as the store has it, unless a newer one has come."""
        if self._newest is None:
            self._newest = message

    def append(
        self, sender_id: str, mentions: Sequence[str], text: str | None, created_at: datetime, *, deleted: bool
    ) -> None:
        """Take the message after the last one."""
        self.last = seq = self.last + 1
        self._newest = seq, sender_id, _preview(text), created_at
        if deleted:
            self._deleted.append(seq)
            return
        _append(self._senders, sender_id, seq)
        if not mentions:
            return
        if ROOM_MENTION in mentions:
            _append(self._mentions, ROOM_MENTION, seq)
            _append(self._mentions, _own_room_mentions(sender_id), seq)
        else:
            for user_id in set(mentions) - {sender_id}:
                _append(self._mentions, user_id, seq)

    def delete(self, seq: int) -> None:
        """A message up to the last one has been deleted; again changes nothing."""
        self._reword(seq, None)
        if seq <= self.floor:
            self.counted.clear()
        elif not _holds(self._deleted, seq):
            for seqs in (*self._senders.values(), *self._mentions.values()):
                if _holds(seqs, seq):
                    del seqs[bisect_left(seqs, seq)]
            insort(self._deleted, seq)

    def edit(self, seq: int, text: str | None) -> None:
        """A message up to the last one has another text."""
        self._reword(seq, text)

    def _reword(self, seq: int, text: str | None) -> None:
        self.changes += 1
        newest = self.newest
        if newest is not None and newest.seq == seq:
            self._newest = newest.model_copy(update={"text": _preview(text)})

    def above(self, user_id: str, read_seq: int) -> Unread:
        """What this member has not read of the messages above this seq, which is not below the floor."""
        if read_seq >= self.last:
            return NOTHING
        not_unread = _above(self._senders.get(user_id), read_seq) + _above(self._deleted, read_seq)
        unread = self.last - read_seq - not_unread
        if not self._mentions:
            return Unread(unread)
        named, everyone, own = (
            _above(self._mentions.get(key), read_seq) for key in (user_id, ROOM_MENTION, _own_room_mentions(user_id))
        )
        return Unread(unread, named + everyone - own)


def _own_room_mentions(user_id: str) -> str:
    """The key of someone's own mentions of the room; no user id, for none has a blank."""
    return f"{ROOM_MENTION} {user_id}"


def _preview(text: str | None) -> str | None:
    return None if text is None else text[:PREVIEW_CODE_POINTS]


def _append(lists: dict[str, Seqs], key: str, seq: int) -> None:
    seqs = lists.get(key)
    if seqs is None:
        lists[key] = array("Q", (seq,))
    else:
        seqs.append(seq)


def _above(seqs: Seqs | None, seq: int) -> int:
    return 0 if not seqs else len(seqs) - bisect_right(seqs, seq)


def _holds(seqs: Seqs, seq: int) -> bool:
    place = bisect_left(seqs, seq)
    return place < len(seqs) and seqs[place] == seq
