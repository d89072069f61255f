"""Blocks between two people as this node knows them: remembered for a moment, forgotten everywhere at a change."""

from collections.abc import Callable
from typing import Final

from handlers.delivery import user_name
from handlers.fanout import Fanout
from handlers.read_cache import ReadCache
from storage.blocks import BlockStore

_BLOCKS: Final = "blocks"

Place = tuple[str, str, int]
"""Whose devices are here, the other one, and the stretch of time that this node has been listening for them."""


class BlockCache:
    """Who of two people has blocked the other; remembered only while one of the two has a device on this node."""

    def __init__(self, blocks: BlockStore, fanout: Fanout, now: Callable[[], float]) -> None:
        self._blocks = blocks
        self._fanout = fanout
        self._cache: ReadCache[Place, frozenset[str]] = ReadCache(lambda place: self._read(*place), now)
        fanout.on_change(_BLOCKS, self._forget)

    def peek(self, one: str, other: str) -> frozenset[str] | None:
        """Who of the two blocks the other, without a wait; None when it is not known here at the moment."""
        place = self._place(one, other)
        return None if place is None else self._cache.peek(place)

    async def between(self, one: str, other: str) -> frozenset[str]:
        """Who of the two blocks the other, at most 5 s old. Raises: the store's errors."""
        place = self._place(one, other)
        return await (self._blocks.blockers_between(one, other) if place is None else self._cache.get(place))

    async def is_blocked_either(self, one: str, other: str) -> bool:
        """Whether one of the two blocks the other, at most 5 s old. Raises: the store's errors."""
        return bool(await self.between(one, other))

    async def changed(self, one: str, other: str) -> None:
        """Have all nodes with a device of either look again, and wait until they have taken note."""
        await self._fanout.change([user_name(one), user_name(other)], _BLOCKS, one, other)

    def _place(self, one: str, other: str) -> Place | None:
        if (stretch := self._fanout.listening(user_name(one))) is not None:
            return one, other, stretch
        if (stretch := self._fanout.listening(user_name(other))) is not None:
            return other, one, stretch
        return None

    def _forget(self, one: str, other: str) -> None:
        for user_id, peer in ((one, other), (other, one)):
            if (stretch := self._fanout.listening(user_name(user_id))) is not None:
                self._cache.forget((user_id, peer, stretch))

    async def _read(self, one: str, other: str, _: int) -> frozenset[str]:
        return await self._blocks.blockers_between(one, other)
