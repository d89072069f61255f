"""Memberships of those who are connected here, remembered for a moment: their devices report what they read again and
again."""

from collections.abc import Callable
from typing import Final

import orjson

from handlers.delivery import user_name
from handlers.fanout import Fanout
from handlers.read_cache import ReadCache
from storage.members import Membership, MemberStore

_UNREAD: Final = b'42["unread:updated",'

Place = tuple[str, str, int]
"""Room, user, and the stretch of time that this node has been listening for the user."""


class MemberCache:
    """Only for watermarks: what moves them on another node is overheard, as far as it is told, or is 5 s old at most.

    What has been acknowledged on this node is always in it. Raises: the store's errors.
    """

    def __init__(self, members: MemberStore, fanout: Fanout, now: Callable[[], float]) -> None:
        self._members = members
        self._fanout = fanout
        self._cache: ReadCache[Place, Membership | None] = ReadCache(lambda place: members.get(*place[:2]), now)
        fanout.on_heard = self._heard

    def peek(self, room_id: str, user_id: str) -> Membership | None:
        """The membership, without a wait; None when it is not known here at the moment."""
        place = self._place(room_id, user_id)
        membership = None if place is None else self._cache.peek(place)
        return None if membership is None else self._members.receipts.overlay(membership)

    async def get(self, room_id: str, user_id: str) -> Membership | None:
        """The membership; None also for who is banned."""
        place = self._place(room_id, user_id)
        membership = await (self._members.get(room_id, user_id) if place is None else self._cache.get(place))
        return None if membership is None else self._members.receipts.overlay(membership)

    def _place(self, room_id: str, user_id: str) -> Place | None:
        stretch = self._fanout.listening(user_name(user_id))
        return None if stretch is None else (room_id, user_id, stretch)

    def _heard(self, name: str, payload: bytes) -> None:
        """Another node has told a user's devices, or a room's, something."""
        if payload.startswith(_UNREAD):
            place = self._place(orjson.loads(payload[2:])[1]["roomId"], name.removeprefix("user:"))
            if place is not None:
                self._cache.forget(place)
