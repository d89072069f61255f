"""Telling people that they were mentioned: behind the sender's back, so that no ack waits for it.

What a commit leaves to be told waits in a bounded queue; a worker stores it, many messages in one insert, and then
tells the devices. A mention that is stored already is told to nobody again, so that a message may come twice.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import Context
from datetime import datetime
from typing import Final

import structlog

from handlers.badges import Badges
from handlers.fanout import Fanout
from protocol.commands import ROOM_MENTION
from protocol.errors import Unavailable
from protocol.events import NotificationSent
from protocol.resources import PREVIEW_CODE_POINTS, Message
from storage.blocks import BlockStore
from storage.members import Membership, MemberStore
from storage.messages import MessageLog
from storage.mongo import is_outage
from storage.notifications import NotificationRecord, NotificationStore
from storage.rooms import RoomStore
from storage.users import UserStore

QUEUE_MAX: Final = 10_000
"""Messages whose mentions wait; when the store takes no more than that, mentions still count in their rooms."""
MESSAGES_AT_ONCE: Final = 64
ENTRIES_AT_ONCE: Final = 1_000
"""Notifications of one insert: a room of 10,000 takes ten, none of which holds the loop for long."""
EVENTS_AT_ONCE: Final = 200
"""Events sent before others get their turn on the loop."""
RETRY_SECONDS: Final = 0.5
FLUSH_SECONDS: Final = 5.0
"""How long a shutdown waits for what is queued."""
TITLE_CODE_POINTS: Final = 200

log = structlog.get_logger()


class Notifier:
    """The worker behind mentions. `on_dropped` is told how many messages' mentions found no place in the queue."""

    def __init__(
        self,
        notifications: NotificationStore,
        rooms: RoomStore,
        members: MemberStore,
        users: UserStore,
        blocks: BlockStore,
        fanout: Fanout,
        badges: Badges,
        log: MessageLog,
        clock: Callable[[], datetime],
        on_dropped: Callable[[int], None],
    ) -> None:
        self._notifications = notifications
        self._rooms = rooms
        self._members = members
        self._users = users
        self._blocks = blocks
        self._fanout = fanout
        self._badges = badges
        self._log = log
        self._clock = clock
        self._on_dropped = on_dropped
        self._waiting: deque[tuple[Message, bool]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    def mentioned(self, message: Message) -> None:
        """Have those whom a stored message mentions told of it. Never waits."""
        self._queue(message, is_deleted=False)

    def deleted(self, message: Message) -> None:
        """Have the notifications of a message taken back that has just been deleted; given as it was. Never waits."""
        self._queue(message, is_deleted=True)

    def _queue(self, message: Message, *, is_deleted: bool) -> None:
        if self._closed or len(self._waiting) >= QUEUE_MAX:
            self._on_dropped(1)
            return
        self._waiting.append((message, is_deleted))
        if self._worker is None:
            # It belongs to no sender: it must not inherit the deadline of whoever came first.
            self._worker = asyncio.create_task(self._work(), context=Context())

    async def close(self) -> None:
        """Take nothing more, and store what was taken, if the store lets us in time."""
        self._closed = True
        if self._worker is None:
            return
        done, _ = await asyncio.wait([self._worker], timeout=FLUSH_SECONDS)
        if not done:
            self._worker.cancel()
            await asyncio.wait([self._worker])
            self._on_dropped(len(self._waiting))

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MESSAGES_AT_ONCE, len(self._waiting)))]
                told = await self._tell(batch)
                while not told:
                    await asyncio.sleep(RETRY_SECONDS)
                    told = await self._tell(batch)
        finally:
            self._worker = None

    async def _tell(self, batch: Sequence[tuple[Message, bool]]) -> bool:
        """Store and tell, then take back; False when the store is away, and then all of it may be done again."""
        try:
            await self._tell_mentions([message for message, is_deleted in batch if not is_deleted])
            for message, is_deleted in batch:
                if is_deleted:
                    await self._take_back(message)
        except Exception as error:
            if is_outage(error) or isinstance(error, Unavailable):
                return False
            log.exception("mentions not told", messages=len(batch))
        return True

    async def _tell_mentions(self, messages: Sequence[Message]) -> None:
        records = await self._records(messages)
        named = [m for m in messages if ROOM_MENTION not in m.mentions and m.message_id in records]
        memberships = await asyncio.gather(*(self._named(message) for message in named))
        await self._deliver(
            [
                (membership, records[message.message_id])
                for message, members in zip(named, memberships, strict=True)
                for membership in members
            ]
        )
        for message in messages:
            if ROOM_MENTION in message.mentions and message.message_id in records:
                await self._tell_room(message, records[message.message_id])
        # What was deleted meanwhile, perhaps by way of another node, which found nothing yet to take back.
        stored = await asyncio.gather(*(self._log.get(message.room_id, message.seq) for message in messages))
        for message, now in zip(messages, stored, strict=True):
            if now is not None and now.deleted_at is not None:
                await self._take_back(message)

    async def _take_back(self, message: Message) -> None:
        if ROOM_MENTION not in message.mentions:
            await self._notifications.remove(message.mentions, mention_id(message))
            return
        async for page in self._pages(message.room_id):
            await self._notifications.remove([member.user_id for member in page], mention_id(message))

    async def _records(self, batch: Sequence[Message]) -> dict[str, NotificationRecord]:
        """What the mentions of each message say; nothing for a message whose room is no more."""
        rooms, profiles = await asyncio.gather(
            self._rooms.get_many({message.room_id for message in batch}),
            self._users.profiles([*{message.sender_id for message in batch}]),
        )
        records = {}
        for message in batch:
            if (room := rooms.get(message.room_id)) is not None:
                profile = profiles.get(message.sender_id)
                sender = (profile.name if profile is not None else None) or message.sender_id
                records[message.message_id] = NotificationRecord(
                    id=mention_id(message),
                    type="mention",
                    title=(f"{sender} · {room.title}" if room.title else sender)[:TITLE_CODE_POINTS],
                    body=(message.text or "")[:PREVIEW_CODE_POINTS],
                    data={"roomId": message.room_id, "seq": message.seq},
                    created_at=message.created_at,
                )
        return records

    async def _named(self, message: Message) -> list[Membership]:
        """The members that a message names."""
        found = await asyncio.gather(*(self._members.get(message.room_id, user_id) for user_id in message.mentions))
        return await self._willing([membership for membership in found if membership is not None], message.sender_id)

    async def _tell_room(self, message: Message, record: NotificationRecord) -> None:
        """Tell every member, some at a time."""
        async for page in self._pages(message.room_id):
            await self._deliver([(member, record) for member in await self._willing(page, message.sender_id)])

    async def _pages(self, room_id: str) -> AsyncIterator[Sequence[Membership]]:
        after = None
        while page := await self._members.list(room_id, after, ENTRIES_AT_ONCE):
            yield page
            after = page[-1].joined_at, page[-1].user_id

    async def _willing(self, memberships: Sequence[Membership], sender_id: str) -> list[Membership]:
        """Those who are not the sender, and have not blocked them."""
        blockers = await self._blocks.blockers_among((member.user_id for member in memberships), sender_id)
        return [member for member in memberships if member.user_id != sender_id and member.user_id not in blockers]

    async def _deliver(self, told: Sequence[tuple[Membership, NotificationRecord]]) -> None:
        """Store first; then tell the devices of those to whom it is new, unless they have muted the room."""
        now = self._clock()
        for start in range(0, len(told), ENTRIES_AT_ONCE):
            some = told[start : start + ENTRIES_AT_ONCE]
            muted = {
                (member.user_id, record.id)
                for member, record in some
                if member.muted_until is not None and member.muted_until > now
            }
            new = await self._notifications.add([(member.user_id, record) for member, record in some])
            for number, (user_id, record) in enumerate(new, 1):
                if (user_id, record.id) not in muted:
                    self._fanout.to_user(user_id, as_event(record))
                self._badges.tell([user_id], record.data["roomId"])
                if number % EVENTS_AT_ONCE == 0:
                    await asyncio.sleep(0)


def mention_id(message: Message) -> str:
    """The id of the notification that a message's mentions make, the same for all whom it mentions."""
    return f"mention:{message.message_id}"


def as_event(record: NotificationRecord) -> NotificationSent:
    """A stored notification as devices are told of it."""
    return NotificationSent(
        id=record.id,
        type=record.type,
        title=record.title,
        body=record.body,
        data=record.data,
        created_at=record.created_at,
    )
