"""What this node does about a bus that lost something: re-read from MongoDB what the bus would have told it.

After every gap the rooms named by the bus are healed at once. While Redis is away the same is done over and over, so
that messages of other nodes arrive, and people who were removed are out, within 5 s all the same.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from handlers.delivery import Delivery
from handlers.fanout import Fanout
from realtime.cluster import Cluster
from storage.members import MemberStore

AWAY_SECONDS: Final = 2.0
"""How often the store is read while the bus is away; with the read itself well below the 5 s that are promised."""
RETRY_SECONDS: Final = 0.5
USERS_AT_ONCE: Final = 256

log = structlog.get_logger()


class Healing:
    """One task that heals the rooms it is told of, and all rooms while the bus is away."""

    def __init__(
        self,
        cluster: Cluster,
        delivery: Delivery,
        fanout: Fanout,
        members: MemberStore,
        is_outage: Callable[[BaseException], bool],
    ) -> None:
        self._cluster = cluster
        self._delivery = delivery
        self._fanout = fanout
        self._members = members
        self._is_outage = is_outage
        self._rooms: dict[str, None] = {}
        self._all = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        cluster.on_gap = self._gap

    def start(self) -> None:
        """Begin to heal."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop healing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _gap(self, names: list[str]) -> None:
        """The bus may have lost something for these rooms and users."""
        self._rooms.update(dict.fromkeys(name.removeprefix("room:") for name in names if name.startswith("room:")))
        self._all = self._all or any(name.startswith("user:") for name in names)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            if self._cluster.connected or not self._fanout.users():
                try:
                    async with asyncio.timeout(AWAY_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    continue
            else:
                await asyncio.sleep(AWAY_SECONDS)
                self._all = True
            self._wake.clear()
            rooms, self._rooms = list(self._rooms), {}
            everything, self._all = self._all, False
            try:
                if everything:
                    await self._refresh_memberships()
                    rooms = self._delivery.room_ids()
                await self._delivery.heal(rooms)
            except Exception as error:
                if not self._is_outage(error):
                    log.exception("healing failed")
                self._rooms.update(dict.fromkeys(rooms))
                self._all = self._all or everything
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _refresh_memberships(self) -> None:
        """Bring every local device into its user's rooms, and out of those that are theirs no more."""
        users = self._fanout.users()
        for start in range(0, len(users), USERS_AT_ONCE):
            await asyncio.gather(*(self._refresh(user_id) for user_id in users[start : start + USERS_AT_ONCE]))

    async def _refresh(self, user_id: str) -> None:
        memberships = await self._members.memberships_of(user_id)
        current = {membership.room_id for membership in memberships}
        for room_id in self._fanout.rooms_of(user_id) - current:
            self._fanout.leave(user_id, room_id)
        for room_id in current:
            self._fanout.enter(user_id, room_id)
