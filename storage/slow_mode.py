"""Slow mode: when each member may write again, kept beside the membership, so that every node counts alike."""

from datetime import timedelta

from protocol.types import Role
from storage.membership import Clock, member_key
from storage.mongo import Document, Mongo

NO_WAIT = timedelta(0)


class SlowMode:
    """One slot a member, taken by one conditional write. Raises: the driver's errors when the store is away."""

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._members = mongo["members"]
        self._clock = clock

    async def take(self, room_id: str, user_id: str, pause: timedelta, client_id: str | None) -> timedelta:
        """Take a member's slot; how long until it is free when it is not, `NO_WAIT` when the message may be sent.

        The `client_id` that holds the slot may have it again: it is the same message. Admins and owners need none.
        """
        key, now = member_key(room_id, user_id), self._clock()
        free: list[Document] = [{"slot": None}, {"slot.at": {"$lte": now - pause}}]
        taken = await self._members.update_one(
            {"_id": key, "role": Role.MEMBER.value, "$or": free}, {"$set": {"slot": {"at": now, "clientId": client_id}}}
        )
        if taken.matched_count:
            return NO_WAIT
        member = await self._members.find_one({"_id": key}, {"role": 1, "slot": 1})
        if member is None or member["role"] != Role.MEMBER.value or not member.get("slot"):
            return NO_WAIT
        if client_id is not None and member["slot"]["clientId"] == client_id:
            return NO_WAIT
        wait: timedelta = member["slot"]["at"] + pause - now
        return max(wait, timedelta(milliseconds=1))

    async def give_back(self, room_id: str, user_id: str) -> None:
        """Free a slot whose message was not sent after all."""
        await self._members.update_one({"_id": member_key(room_id, user_id)}, {"$set": {"slot": None}})
