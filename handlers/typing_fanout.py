"""Tells rooms who of this node's users is typing there, and who has stopped."""

import asyncio
from collections.abc import Iterable
from typing import Final

import orjson

from handlers.delivery import Delivered
from handlers.fanout import Fanout
from presence.deadlines import Alarm
from presence.typists import EXPIRY_SECONDS, Typist, Typists
from protocol.events import TypingStarted, TypingStopped

EXPIRES_IN_MS: Final = int(EXPIRY_SECONDS * 1000)
_RECEIVED: Final = b'42["message:received",'


class TypingFanout:
    """One state and one timer for all typists of this node. Nothing waits, nothing is stored.

    Each node speaks for its own sessions: who types on two devices on two nodes stops twice.
    """

    def __init__(self, fanout: Fanout) -> None:
        self._fanout = fanout
        self._typists = Typists()
        self._alarm = Alarm(self._expire)
        self._now = asyncio.get_running_loop().time

    def renew(self, room_id: str, user_id: str, session_id: str) -> bool:
        """Somebody types on. False when that is news to the room: then it is to be told by `start`."""
        return self._typists.renew((room_id, user_id), session_id, self._now())

    def start(self, room_id: str, user_id: str, session_id: str) -> None:
        """Somebody types, unless the session has left the room meanwhile."""
        if not self._fanout.is_in(session_id, room_id):
            return
        if self._typists.start((room_id, user_id), session_id, self._now()):
            started = TypingStarted(room_id=room_id, user_id=user_id, expires_in_ms=EXPIRES_IN_MS)
            self._fanout.to_others(room_id, user_id, started)
            self._alarm.set(self._typists.next_due())

    def stop(self, room_id: str, user_id: str, session_id: str) -> None:
        """A device has stopped."""
        self._tell(self._typists.stop((room_id, user_id), session_id))

    def ended(self, room_id: str, user_id: str) -> None:
        """A user has sent what they typed, or has left the room."""
        if (room_id, user_id) in self._typists:
            self._tell(self._typists.end((room_id, user_id)))

    def delivered(self, room_id: str, item: Delivered) -> None:
        """A message has come by another node, perhaps of somebody who types here on another device."""
        if item.message is None and self._typists and item.packet.payload.startswith(_RECEIVED):
            self.ended(room_id, orjson.loads(item.packet.payload[2:])[1]["senderId"])

    def disconnected(self, session_id: str) -> None:
        """A device has gone."""
        self._tell(self._typists.gone(session_id))

    def close(self) -> None:
        """Stop the timer."""
        self._alarm.stop()

    def _expire(self) -> None:
        self._tell(self._typists.expire(self._now()))
        self._alarm.set(self._typists.next_due())

    def _tell(self, stopped: Iterable[Typist]) -> None:
        for room_id, user_id in stopped:
            self._fanout.to_others(room_id, user_id, TypingStopped(room_id=room_id, user_id=user_id))
