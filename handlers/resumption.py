"""What a client that comes back has missed: what its rooms' logs hold, and messages that only the store has.

A log lacks the messages of a node that died between their commit and their publishing, and whatever Redis lost. They
are found as numbers that are missing, and as messages that are newer than the client's offset.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from handlers.delivery import Delivery, room_name
from handlers.fanout import Fanout
from protocol.events import MessageReceived
from protocol.replies import RoomsPage
from protocol.resources import Message
from realtime.frames import Packet
from realtime.manager import event_packet
from realtime.recovery import MAX_EVENTS, NotRecoverable, Recovery, Returning
from realtime.replay import Missed, Replay
from storage.members import Membership
from storage.messages import MessageLog

MARGIN: Final = timedelta(seconds=5)
"""A message is given its time before it is stored, and delivered then: 4.5 s later at most."""
PAGE: Final = 100
OLDER_MAX: Final = 20_000
"""Messages of which it is remembered when they were sent: those who come back together ask for the same."""
_RECEIVED: Final = b'42["message:received",'


class Resumption:
    """Raises: the store's errors, throughout."""

    def __init__(self, recovery: Recovery, delivery: Delivery, fanout: Fanout, messages: MessageLog) -> None:
        self._recovery = recovery
        self._delivery = delivery
        self._fanout = fanout
        self._messages = messages
        self._sent_at: dict[tuple[str, int], datetime] = {}

    async def resume(self, returning: Returning, memberships: Sequence[Membership], newest: RoomsPage) -> str:
        """Find what a session that has entered its rooms has missed. Returns its id, which is a new one if that fails.

        `newest` are the rooms that were active last.
        """
        session = returning.session
        names = [name for name in session.rooms if name.startswith(("room:", "user:"))]
        # What comes from here on is held; of messages, that is all behind these.
        upto = self._delivered_before(names, session.held)
        try:
            joined_ms = {room_name(member.room_id): _ms(member.joined_at) for member in memberships}
            replay = await self._recovery.read(returning, names, joined_ms)
            missed = [event for event in replay.missed if abs(event.number or 0) <= upto.get(event.room, 0)]
            if len(missed) <= MAX_EVENTS:
                since = datetime.fromtimestamp(returning.offset.ms / 1000, UTC) - MARGIN
                missed += await self._not_logged(replay, upto, since, memberships, newest)
            self._recovery.settle(returning, missed)
        except NotRecoverable as error:
            self._recovery.start_anew(returning, error)
            session.data = replace(session.data, session_id=session.sid)
            self._fanout.on_entered(session.sid, [member.room_id for member in memberships])
        return session.sid

    def _delivered_before(self, names: Iterable[str], held: Iterable[Packet]) -> dict[str, int]:
        """The last message of each room before those that the session holds back."""
        upto = {}
        for name in names:
            if name.startswith("room:"):
                upto[name] = self._delivery.last(name.removeprefix("room:")) or 0
        for packet in held:
            if packet.plain_payload.startswith(_RECEIVED):
                message = orjson.loads(packet.plain_payload[2:])[1]
                name = room_name(message["roomId"])
                upto[name] = min(upto.get(name, 0), message["seq"] - 1)
        return upto

    # --- what the logs lack -----------------------------------------------------------------------------------------

    async def _not_logged(
        self,
        replay: Replay,
        upto: dict[str, int],
        since: datetime,
        memberships: Sequence[Membership],
        newest: RoomsPage,
    ) -> list[Missed]:
        """Messages sent since that moment. Raises: NotRecoverable when more rooms than are known were active since."""
        rooms = newest.rooms
        active = [room.room_id for room in rooms if room.last_message and room.last_message.created_at > since]
        if len(active) == len(rooms) and newest.next_cursor is not None:
            raise NotRecoverable("too much")
        joined = {member.room_id: member.joined_at for member in memberships}
        found = await asyncio.gather(
            *(
                self._not_logged_in(room_id, replay, upto[room_name(room_id)], max(since, joined[room_id]))
                for room_id in active
                if room_name(room_id) in upto
            )
        )
        return [missed for some in found for missed in some]

    async def _not_logged_in(self, room_id: str, replay: Replay, last: int, since: datetime) -> list[Missed]:
        name = room_name(room_id)
        had = replay.had.get(name, set())
        replayed = {event.number for event in replay.missed if event.room == name and event.number is not None}
        known = {number for number in had | replayed if 0 < number <= last}
        first = min(known, default=last + 1)
        messages = await self._between(room_id, set(range(first, last + 1)) - known)
        if first not in had:
            messages += await self._newest_before(room_id, first, since)
        return [
            Missed(name, message.seq, event_packet(MessageReceived.wire_name, message.wire_json()).payload)
            for message in messages
        ]

    async def _between(self, room_id: str, seqs: Collection[int]) -> list[Message]:
        if not seqs:
            return []
        if len(seqs) > MAX_EVENTS:
            raise NotRecoverable("too much")
        first, last = min(seqs), max(seqs)
        messages = await self._messages.between(room_id, first - 1, last + 1, last - first + 1)
        return [message for message in messages if message.seq in seqs]

    async def _newest_before(self, room_id: str, seq: int, since: datetime) -> list[Message]:
        """Those sent after a moment, before this one. Raises: NotRecoverable when they are too many."""
        found: list[Message] = []
        while seq > 1 and not self._is_older(room_id, seq - 1, since):
            page = await self._messages.between(room_id, 0, seq, PAGE, newest=True)
            newer = [message for message in page if message.created_at > since]
            found += newer
            if len(found) > MAX_EVENTS:
                raise NotRecoverable("too much")
            if len(newer) < len(page) or not page:
                self._remember(page[-1] if page else None)
                break
            seq = page[0].seq
        return found

    def _is_older(self, room_id: str, seq: int, since: datetime) -> bool:
        sent_at = self._sent_at.get((room_id, seq))
        return sent_at is not None and sent_at <= since

    def _remember(self, message: Message | None) -> None:
        if message is not None:
            if len(self._sent_at) >= OLDER_MAX:
                self._sent_at.clear()
            self._sent_at[message.room_id, message.seq] = message.created_at


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
