"""`unread:updated` to users' devices, for whatever changes their counts other than a message does.

Changes only name who and where. A moment later the counts are taken as they are then, so that a burst of changes is
one event for each user and room, and never an old count after a newer one.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from handlers.fanout import Fanout
from handlers.unread import UnreadCounts
from protocol.events import UnreadUpdated
from storage.members import Membership, MemberStore

if TYPE_CHECKING:
    from handlers.services import Services

ROUND_SECONDS: Final = 0.2
"""Between two events for the same user and room, at least."""
CLOSE_SECONDS: Final = 2.0
"""At shutdown; a count that is not told is in the next reading."""
USERS_AT_ONCE: Final = 64
WAITING_MAX: Final = 20_000
"""Users to be told; beyond it the oldest are not, and see the right count with their next reading."""
ROOMS_MAX: Final = 500
"""Rooms of one user to be told at once."""

log = structlog.get_logger()


def tell_unread(user_ids: Iterable[str], room_id: str, services: "Services") -> None:
    """Have these users' devices told what is unread in this room now; after the write that changes it. Never waits."""
    services.badges.tell(user_ids, room_id)


class Badges:
    """One task that tells users' devices of their counts. `clock` gives UTC."""

    def __init__(
        self, members: MemberStore, unread: UnreadCounts, fanout: Fanout, clock: Callable[[], datetime]
    ) -> None:
        self._members = members
        self._unread = unread
        self._fanout = fanout
        self._clock = clock
        self._waiting: dict[str, set[str]] = {}
        self._closing = asyncio.Event()
        self._teller: asyncio.Task[None] | None = None

    def tell(self, user_ids: Iterable[str], room_id: str) -> None:
        """Tell these users' devices of this room's counts, shortly. Never waits."""
        for user_id in user_ids:
            rooms = self._waiting.setdefault(user_id, set())
            if len(rooms) < ROOMS_MAX:
                rooms.add(room_id)
        if len(self._waiting) > WAITING_MAX:
            dropped = list(islice(self._waiting, len(self._waiting) - WAITING_MAX))
            for user_id in dropped:
                del self._waiting[user_id]
            log.warning("unread counts not told", users=len(dropped))
        if self._waiting and self._teller is None:
            self._teller = asyncio.get_running_loop().create_task(self._tell_rounds())

    async def close(self) -> None:
        """Tell what is waiting, if that does not take long, then stop."""
        self._closing.set()
        if self._teller is not None:
            await asyncio.wait([self._teller], timeout=CLOSE_SECONDS)
        if self._teller is not None:
            self._teller.cancel()
            await asyncio.gather(self._teller, return_exceptions=True)

    async def _tell_rounds(self) -> None:
        try:
            # Let the changes of this loop tick come together.
            await asyncio.sleep(0)
            while self._waiting:
                waiting, self._waiting = self._waiting, {}
                users = iter(waiting)
                while some := list(islice(users, USERS_AT_ONCE)):
                    await self._tell_some({user_id: waiting[user_id] for user_id in some})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ROUND_SECONDS):
                        await self._closing.wait()
        finally:
            self._teller = None

    async def _tell_some(self, rooms: dict[str, set[str]]) -> None:
        try:
            await asyncio.gather(*(self._tell(user_id, room_ids) for user_id, room_ids in rooms.items()))
        except Exception as error:
            log.warning("unread counts not told", users=len(rooms), reason=type(error).__name__)

    async def _tell(self, user_id: str, room_ids: set[str]) -> None:
        memberships = await self._members.memberships_of(user_id)
        states = await self._unread.of(memberships)
        now = self._clock()
        total = sum(states[m.room_id].unread for m in memberships if not _is_muted(m, now))
        for room_id in room_ids & states.keys():
            state = states[room_id]
            self._fanout.to_user(
                user_id,
                UnreadUpdated(room_id=room_id, unread=state.unread, mentions=state.mentions, total_unread=total),
            )


def _is_muted(membership: Membership, now: datetime) -> bool:
    return membership.muted_until is not None and membership.muted_until > now
