"""Who runs a room: one with members has an owner, whatever happens at the same instant."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

from protocol.errors import Forbidden, NotFound, Unavailable
from protocol.types import Role
from storage.membership import BANNED, MEMBER_ROLES, Clock, Membership, as_membership, member_key, new_member
from storage.mongo import Document, Mongo, Session, transaction

QUEUE_SECONDS = 4.0
"""Longest wait for the changes of the same room before this one; below the deadline of an event."""

T = TypeVar("T")
Check = Callable[[Role | None, Role | None], None]
"""Raises unless someone of the first role may do this to someone of the second; None is no member."""
Elect = Callable[[Sequence[Membership]], Membership | None]
"""Who of these becomes owner; None when one of them is, or none is left."""


class Ownership:
    """Departures and changes of role.

    Each is a transaction that first touches the room document, so that no two of them overlap in one room, on any
    number of nodes; within a node they queue, which spares them the conflict. Joins take no part in this: a departure
    does not see a join that commits beside it. So a room left by its last member is marked `ownerless`, and
    `appoint_owner` is called once more by whoever left and by whoever joined.

    Raises: NotFound without the room or the person; the driver's errors when the store is away; Unavailable when the
    wait for other changes of the room is too long; what a check raises, and then nothing has changed.
    """

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._mongo = mongo
        self._rooms = mongo["rooms"]
        self._members = mongo["members"]
        self._clock = clock
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def leave(self, room_id: str, user_id: str, elect: Elect) -> str | None:
        """End a membership, and say who became owner by it: when the last owner goes, `elect` names the next."""
        # Who is not an owner leaves nothing to settle. Should they become one just now, the filter no longer fits.
        not_owner = {"$in": [Role.MEMBER.value, Role.ADMIN.value]}
        gone = await self._members.delete_one({"_id": member_key(room_id, user_id), "role": not_owner})
        if gone.deleted_count:
            return None

        async def abdicate(session: Session) -> str | None:
            if await self._role(room_id, user_id, session) is None:
                raise NotFound
            await self._members.delete_one({"_id": member_key(room_id, user_id)}, session=session)
            return await self._settle(room_id, elect, session)

        heir = await self._alone(room_id, abdicate)
        return heir or await self.appoint_owner(room_id, elect)

    async def appoint_owner(self, room_id: str, elect: Elect) -> str | None:
        """Give an ownerless room that has members again an owner, and say whom; None when there is nothing to do."""
        if await self._rooms.find_one({"_id": room_id, "ownerless": True}, {"_id": 1}) is None:
            return None
        return await self._alone(room_id, lambda session: self._settle(room_id, elect, session))

    async def kick(self, room_id: str, actor_id: str, user_id: str, check: Check) -> None:
        """End someone else's membership."""

        async def change(session: Session) -> None:
            check(await self._role(room_id, actor_id, session), await self._role(room_id, user_id, session))
            await self._members.delete_one({"_id": member_key(room_id, user_id)}, session=session)

        await self._alone(room_id, change)

    async def ban(self, room_id: str, actor_id: str, user_id: str, check: Check) -> bool:
        """Shut someone out, member or not; whether it ended a membership."""

        async def change(session: Session) -> bool:
            former = await self._role(room_id, user_id, session)
            check(await self._role(room_id, actor_id, session), former)
            rest = new_member(room_id, user_id, Role.MEMBER, self._clock())
            del rest["role"]
            ban = {"$set": {"role": BANNED}, "$setOnInsert": rest}
            await self._members.update_one({"_id": rest["_id"]}, ban, upsert=True, session=session)
            return former is not None

        return await self._alone(room_id, change)

    async def set_role(self, room_id: str, actor_id: str, user_id: str, role: Role, check: Check) -> bool:
        """Give a member a role; False when they had it. Raises: Forbidden when it would leave the room no owner."""

        async def change(session: Session) -> bool:
            former = await self._role(room_id, user_id, session)
            check(await self._role(room_id, actor_id, session), former)
            if former is role:
                return False
            await self._give_role(room_id, user_id, role, session)
            if former is Role.OWNER and await self._first(room_id, Role.OWNER, session) is None:
                raise Forbidden("a room keeps at least one owner; make someone else owner first")
            return True

        return await self._alone(room_id, change)

    async def _alone(self, room_id: str, change: Callable[[Session], Awaitable[T]]) -> T:
        async def touch_and_change(session: Session) -> T:
            touched = await self._rooms.update_one({"_id": room_id}, {"$inc": {"version": 1}}, session=session)
            if touched.matched_count == 0:
                raise NotFound
            return await change(session)

        async with self._turn(room_id):
            return await transaction(self._mongo, touch_and_change)

    @asynccontextmanager
    async def _turn(self, room_id: str) -> AsyncIterator[None]:
        queue = self._queues.setdefault(room_id, asyncio.Lock())
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await queue.acquire()
        except TimeoutError:
            raise Unavailable("too many changes of this room at once, try again") from None
        try:
            yield
        finally:
            queue.release()

    async def _settle(self, room_id: str, elect: Elect, session: Session) -> str | None:
        first = [await self._first(room_id, role, session) for role in Role]
        candidates = [membership for membership in first if membership is not None]
        heir = elect(candidates)
        if heir is not None:
            await self._give_role(room_id, heir.user_id, Role.OWNER, session)
        change: Document = {"$unset": {"ownerless": True}} if candidates else {"$set": {"ownerless": True}}
        await self._rooms.update_one({"_id": room_id}, change, session=session)
        return heir.user_id if heir is not None else None

    async def _first(self, room_id: str, role: Role, session: Session) -> Membership | None:
        document = await self._members.find_one(
            {"roomId": room_id, "role": role.value}, sort=[("joinedAt", 1), ("userId", 1)], session=session
        )
        return as_membership(document) if document is not None else None

    async def _give_role(self, room_id: str, user_id: str, role: Role, session: Session) -> None:
        await self._members.update_one(
            {"_id": member_key(room_id, user_id)}, {"$set": {"role": role.value}}, session=session
        )

    async def _role(self, room_id: str, user_id: str, session: Session) -> Role | None:
        document = await self._members.find_one(
            {"_id": member_key(room_id, user_id), "role": {"$in": MEMBER_ROLES}}, {"role": 1}, session=session
        )
        return Role(document["role"]) if document is not None else None
