"""Changes of messages that the bus has lost on the way here, read from the store and told to the local members.

Messages have numbers, so that a lost one shows; a lost edit or delete does not. So whenever something may be lost, what
changed since all was well is told again: a deleted message as such, any other as an edited one, as it is now.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from handlers.delivery import Delivery
from protocol.events import MessageDeleted, MessageEdited, ServerEvent
from protocol.resources import ThreadSummary
from storage.change_feed import Changed, ChangeFeed, Position
from storage.threads import ThreadStore

MARGIN_SECONDS: Final = 10.0
"""Before the last moment when all seemed well: it takes the bus 2 s to know better, and a change up to 4 s to end."""
ROOMS_AT_ONCE: Final = 1_000
PAGE: Final = 500
TOLD_MAX: Final = 20_000
"""Changes remembered as told while the bus is away, about 4 MB; beyond it some are told twice."""


class Retelling:
    """For one caller at a time. `now` gives monotonic seconds. Raises: the store's errors."""

    def __init__(self, delivery: Delivery, feed: ChangeFeed, threads: ThreadStore, now: Callable[[], float]) -> None:
        self._delivery = delivery
        self._feed = feed
        self._threads = threads
        self._now = now
        self._all_well = now()
        self._told: dict[tuple[str, int], datetime] = {}

    def all_is_well(self) -> None:
        """Whatever was said so far has arrived here, or has been told again."""
        self._all_well = self._now()
        self._told.clear()

    async def catch_up(self, room_ids: Sequence[str]) -> None:
        """Tell the local members of these rooms what has changed since all was well, each change once."""
        away = timedelta(seconds=self._now() - self._all_well + MARGIN_SECONDS)
        since = await self._feed.now() - away
        for start in range(0, len(room_ids), ROOMS_AT_ONCE):
            some = room_ids[start : start + ROOMS_AT_ONCE]
            seen = {room_id: last for room_id in some if (last := self._delivery.last(room_id)) is not None}
            position = Position(since, "", 0)
            while page := await self._feed.after(position, seen, PAGE):
                await self._tell([changed for changed in page if self._is_news(changed)])
                position = page[-1].position

    def _is_news(self, changed: Changed) -> bool:
        changed_at, room_id, seq = changed.position
        if self._told.get((room_id, seq)) == changed_at:
            return False
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told[room_id, seq] = changed_at
        return True

    async def _tell(self, page: Sequence[Changed]) -> None:
        threads = await self._threads.summaries(changed.message for changed in page)
        for changed in page:
            message = changed.message
            thread = threads.get((message.room_id, message.seq))
            self._delivery.tell_change(message.room_id, message.seq, _event(changed, thread))


def _event(changed: Changed, thread: ThreadSummary | None) -> ServerEvent:
    message = changed.message
    if message.deleted_at is None:
        return MessageEdited.model_construct(**{**message.__dict__, "thread": thread})
    return MessageDeleted(
        room_id=message.room_id,
        message_id=message.message_id,
        seq=message.seq,
        by=changed.deleted_by or message.sender_id,
        deleted_at=message.deleted_at,
    )
