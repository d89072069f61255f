"""Reading presence from Redis: what is asked for while a reading is under way is one reading."""

import asyncio
from collections.abc import Iterable
from typing import Final

from presence.redis_state import RedisState, Stored

READ_USERS: Final = 1_000
"""Users in one round trip."""
PATIENCE_SECONDS: Final = 1.0
"""Longest wait of a caller; then it goes on without."""

Found = dict[str, Stored]


class Reader:
    """Gathers what callers ask for. `run` is the one task that reads; cancelling a caller ends its wait alone."""

    def __init__(self, redis: RedisState) -> None:
        self._redis = redis
        self._asked: dict[asyncio.Future[Found | None], list[str]] = {}
        self._wake = asyncio.Event()

    async def read(self, user_ids: Iterable[str]) -> Found | None:
        """What all nodes have said of these users; None when Redis does not answer."""
        answer: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self._asked[answer] = list(user_ids)
        self._wake.set()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._asked.pop(answer, None)

    async def run(self) -> None:
        """Serve. Raises: RedisError, OSError or TimeoutError when Redis is away."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, {}
            found: Found | None = None
            try:
                found = await self._read({user_id for user_ids in asked.values() for user_id in user_ids})
            finally:
                for answer, user_ids in asked.items():
                    if not answer.done():
                        answer.set_result(
                            {user_id: found[user_id] for user_id in user_ids} if found is not None else None
                        )

    async def _read(self, wanted: set[str]) -> Found:
        user_ids, found = list(wanted), Found()
        for start in range(0, len(user_ids), READ_USERS):
            found |= await self._redis.read(user_ids[start : start + READ_USERS])
        return found
