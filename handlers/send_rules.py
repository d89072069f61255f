"""What stands between a member and a message: blocks, slow mode, the operator's hook.

Each node remembers the rules of its busy rooms, so that a send to a room without any costs a dictionary look-up.
A refusal says that nothing was stored; so a message that is there already, sent again, passes all of them.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final, NamedTuple

from auth.caller import Caller
from handlers.block_cache import BlockCache
from handlers.delivery import room_name
from handlers.fanout import Fanout
from handlers.moderation import Moderation
from handlers.read_cache import ReadCache
from protocol.commands import SendMessage
from protocol.errors import Forbidden, NotFound, ParleyError, RateLimited
from protocol.resources import Message
from storage.messages import MessageLog
from storage.rooms import RoomStore
from storage.slow_mode import NO_WAIT, SlowMode

_RULES: Final = "rules"

Place = tuple[str, int]
"""A room, and the stretch of time that this node has been listening to it."""


class RoomRules(NamedTuple):
    """What a send needs to know of its room: the two people of a direct one, the pause of a slow one (0: none)."""

    pair: tuple[str, ...]
    slow_mode_seconds: int

    def peer_of(self, user_id: str) -> str | None:
        """The other person of a direct room; None in other kinds."""
        if not self.pair:
            return None
        one, other = self.pair
        return other if one == user_id else one


class SendRules:
    """The checks on the way of a message, all but membership."""

    def __init__(
        self,
        rooms: RoomStore,
        log: MessageLog,
        slow_mode: SlowMode,
        blocks: BlockCache,
        moderation: Moderation | None,
        fanout: Fanout,
        now: Callable[[], float],
    ) -> None:
        self._rooms = rooms
        self._log = log
        self._slow_mode = slow_mode
        self._blocks = blocks
        self._moderation = moderation
        self._fanout = fanout
        self._cache: ReadCache[Place, RoomRules] = ReadCache(lambda place: self._read(place[0]), now)
        fanout.on_change(_RULES, self._forget)

    def none_apply(self, user_id: str, room_id: str) -> bool:
        """Whether this node knows, without a wait, that nothing stands in the way of this user's messages there."""
        stretch = self._fanout.listening(room_name(room_id))
        rules = None if stretch is None else self._cache.peek((room_id, stretch))
        if rules is None or rules.slow_mode_seconds or self._moderation is not None:
            return False
        peer = rules.peer_of(user_id)
        return peer is None or self._blocks.peek(user_id, peer) == frozenset()

    async def are_parted(self, user_id: str, room_id: str) -> bool:
        """Whether this is a direct room, and one of the two has blocked the other. Raises: NotFound, store's errors."""
        peer = (await self._rules(room_id)).peer_of(user_id)
        return peer is not None and await self._blocks.is_blocked_either(user_id, peer)

    async def apply(self, caller: Caller, command: SendMessage) -> str | None:
        """The text to store, as the hook would have it.

        Raises: NotFound; Forbidden for who is blocked, or whose message the hook rejects; RateLimited in slow mode;
        Unavailable when the hook fails and nothing may pass without it; the store's errors.
        """
        try:
            return await self._apply(caller, command)
        except (Forbidden, RateLimited):
            if await self._is_known(caller, command):
                return command.text
            raise

    async def apply_to_edit(self, message: Message, text: str) -> str:
        """The text to put in place of a message's, as the hook would have it. Raises: Forbidden, Unavailable."""
        return text if self._moderation is None else await self._moderation.review_edit(message, text)

    async def changed(self, room_id: str) -> None:
        """Have all nodes with members of a room look at its rules again, and wait until they have taken note."""
        await self._fanout.change([room_name(room_id)], _RULES, room_id)

    async def _apply(self, caller: Caller, command: SendMessage) -> str | None:
        rules = await self._rules(command.room_id)
        peer = rules.peer_of(caller.user_id)
        if peer is not None and peer in await self._blocks.between(caller.user_id, peer):
            raise Forbidden("this user does not take messages from you")
        if not rules.slow_mode_seconds:
            return await self._moderate(caller, command)
        if command.client_id is not None and await self._is_known(caller, command):
            return command.text
        pause = timedelta(seconds=rules.slow_mode_seconds)
        wait = await self._slow_mode.take(command.room_id, caller.user_id, pause, command.client_id)
        if wait > NO_WAIT:
            raise RateLimited("this room is in slow mode", retry_after_ms=-(-wait // timedelta(milliseconds=1)))
        try:
            return await self._moderate(caller, command)
        except ParleyError:
            await self._slow_mode.give_back(command.room_id, caller.user_id)
            raise

    async def _moderate(self, caller: Caller, command: SendMessage) -> str | None:
        return command.text if self._moderation is None else await self._moderation.review_message(caller, command)

    async def _is_known(self, caller: Caller, command: SendMessage) -> bool:
        """Whether this message is stored, or about to be."""
        if command.client_id is None:
            return False
        return await self._log.has_sent(command.room_id, caller.user_id, command.client_id)

    async def _rules(self, room_id: str) -> RoomRules:
        stretch = self._fanout.listening(room_name(room_id))
        return await (self._read(room_id) if stretch is None else self._cache.get((room_id, stretch)))

    def _forget(self, room_id: str) -> None:
        if (stretch := self._fanout.listening(room_name(room_id))) is not None:
            self._cache.forget((room_id, stretch))

    async def _read(self, room_id: str) -> RoomRules:
        record = await self._rooms.get(room_id)
        if record is None:
            raise NotFound
        return RoomRules(record.pair, record.slow_mode_seconds)
