"""How rooms look to their members, from memory where the room is open on this node, else from the store.

Each room that somebody here has asked about has a tally, which takes every live message in the order of its gate, and
every delete and edit behind it. What lies below a tally is read from the store, once for a member and watermark. A
tally ends with its gate, and where the bus may have lost something.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from handlers.delivery import Delivered, Delivery
from handlers.tally import Counted, Tally
from protocol.resources import LastMessage
from storage.membership import Membership
from storage.room_states import NOTHING, RoomState, RoomStates, Stretch, Unread

SPAN_MAX: Final = 5_000
"""Messages in one tally; then it begins anew, so that a busy room does not push out all others."""
HELD_MAX: Final = 500_000
"""Messages and counts in all tallies, 5 to 50 MB; the room that was asked about least lately goes first."""
ROOMS_MAX: Final = 50_000
"""Tallies, at about 1 kB without their messages."""
_RECEIVED: Final = b'42["message:received",'
_DELETED: Final = b'42["message:deleted",'
_EDITED: Final = b'42["message:edited",'

_Uncounted = tuple[Tally, Membership, int]
"""A member's place below a tally, and the tally's changes so far."""


class UnreadCounts:
    """What is unread, exact as far as this node has been told. Raises: the store's errors."""

    def __init__(self, delivery: Delivery, states: RoomStates) -> None:
        self._delivery = delivery
        self._states = states
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        self._held = 0
        delivery.on_delivered.append(self._delivered)
        delivery.on_doubt.append(self.forget)

    async def of(self, memberships: Sequence[Membership]) -> dict[str, RoomState]:
        """What each membership's room looks like to that member, all of one user, by room."""
        last = self._delivery.certain([membership.room_id for membership in memberships])
        tallies = {room_id: self._tally(room_id, seq) for room_id, seq in last.items()}
        mine = [membership for membership in memberships if membership.room_id in tallies]
        elsewhere = [membership for membership in memberships if membership.room_id not in tallies]
        counted, uncounted = self._known([(tallies[membership.room_id], membership) for membership in mine])
        unseen = {room_id: tally for room_id, tally in tallies.items() if tally.newest is None and tally.last}
        newest: dict[str, LastMessage] = {}
        states: dict[str, RoomState] = {}
        if uncounted or unseen or elsewhere:
            newest, more, states = await asyncio.gather(
                self._newest(unseen), self._count(uncounted), self._states.of(elsewhere)
            )
            counted |= more
        self._shrink()
        for membership in mine:
            tally, below = tallies[membership.room_id], counted.get(membership.room_id, NOTHING)
            above = tally.above(membership.user_id, max(membership.read_seq, tally.floor))
            states[membership.room_id] = RoomState(
                tally.last,
                tally.newest or newest.get(membership.room_id),
                below.unread + above.unread,
                below.mentions + above.mentions,
            )
        return states

    def forget(self, room_id: str) -> None:
        """Let a room's next count begin with the store."""
        tally = self._tallies.pop(room_id, None)
        if tally is not None:
            self._held -= tally.size

    def at(self, room_id: str, user_id: str, read_seq: int) -> Unread | None:
        """What a member who has read up to there has not read, if that is known here without a wait."""
        tally = self._tallies.get(room_id)
        if tally is None or self._delivery.certain((room_id,)).get(room_id) != tally.last:
            return None
        above = tally.above(user_id, max(read_seq, tally.floor))
        if read_seq >= tally.floor:
            return above
        counted = tally.counted.get(user_id)
        if counted is None or counted.read_seq != read_seq:
            return None
        return Unread(counted.unread.unread + above.unread, counted.unread.mentions + above.mentions)

    # --- from the store -------------------------------------------------------------------------------------------

    async def _newest(self, tallies: dict[str, Tally]) -> dict[str, LastMessage]:
        changes = {room_id: tally.changes for room_id, tally in tallies.items()}
        newest = await self._states.newest({room_id: tally.last for room_id, tally in tallies.items()})
        for room_id, message in newest.items():
            if tallies[room_id].changes == changes[room_id]:
                tallies[room_id].know_newest(message)
        return newest

    def _known(self, wanted: Sequence[tuple[Tally, Membership]]) -> tuple[dict[str, Unread], list[_Uncounted]]:
        """What is unread below each tally, as far as it has been counted, and what is to be counted."""
        known: dict[str, Unread] = {}
        unknown: list[_Uncounted] = []
        for tally, membership in wanted:
            counted = tally.counted.get(membership.user_id)
            if membership.read_seq >= tally.floor:
                if counted is not None:
                    self._held -= self._keeps(membership.room_id, tally)
                    del tally.counted[membership.user_id]
            elif counted is not None and counted.read_seq == membership.read_seq:
                known[membership.room_id] = counted.unread
            else:
                unknown.append((tally, membership, tally.changes))
        return known, unknown

    async def _count(self, unknown: Sequence[_Uncounted]) -> dict[str, Unread]:
        """What is unread below each tally; what a delete came across is not kept."""
        counted: dict[str, Unread] = {}
        stretches = [Stretch(m.room_id, m.user_id, m.read_seq, tally.floor) for tally, m, _ in unknown]
        results = await self._states.unread(stretches)
        for (tally, membership, changes), unread in zip(unknown, results, strict=True):
            counted[membership.room_id] = unread
            if tally.changes == changes:
                before = len(tally.counted)
                tally.counted[membership.user_id] = Counted(membership.read_seq, unread)
                self._held += (len(tally.counted) - before) * self._keeps(membership.room_id, tally)
        return counted

    # --- tallies --------------------------------------------------------------------------------------------------

    def _tally(self, room_id: str, last: int) -> Tally:
        tally = self._tallies.get(room_id)
        if tally is None or tally.last != last or last - tally.floor > SPAN_MAX:
            self.forget(room_id)
            tally = self._tallies[room_id] = Tally(last)
        self._tallies.move_to_end(room_id)
        return tally

    def _keeps(self, room_id: str, tally: Tally) -> bool:
        return self._tallies.get(room_id) is tally

    def _shrink(self) -> None:
        while self._tallies and (self._held > HELD_MAX or len(self._tallies) > ROOMS_MAX):
            self.forget(next(iter(self._tallies)))

    def _delivered(self, room_id: str, item: Delivered) -> None:
        """A live message, or a change of one, has passed the room's gate."""
        tally = self._tallies.get(room_id)
        if tally is None:
            return
        size, payload = tally.size, item.packet.payload
        if item.message is not None:
            message, deleted = item.message, item.message.deleted_at is not None
            tally.append(message.sender_id, message.mentions, message.text, message.created_at, deleted=deleted)
        elif payload.startswith(_RECEIVED):
            fields = _argument(payload)
            moment, deleted = datetime.fromisoformat(fields["createdAt"]), fields["deletedAt"] is not None
            tally.append(fields["senderId"], fields["mentions"], fields["text"], moment, deleted=deleted)
        elif payload.startswith(_DELETED):
            tally.delete(_argument(payload)["seq"])
        elif payload.startswith(_EDITED):
            fields = _argument(payload)
            tally.edit(fields["seq"], fields["text"])
        self._held += tally.size - size
        if tally.last - tally.floor > SPAN_MAX:
            self.forget(room_id)
        self._shrink()


def _argument(payload: bytes) -> dict[str, Any]:
    """The first argument of an event packet."""
    fields: dict[str, Any] = orjson.loads(payload[payload.index(b"[") :])[1]
    return fields
