"""What this node does about a bus that lost something: re-read from MongoDB what the bus would have told it.

After every gap the rooms and users named by the bus are healed at once. While Redis is away, or a node that can only
be read through the store, the same is done for all over and over, so that messages of other nodes arrive, and people
who were removed are out, within 5 s all the same.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from handlers.delivery import Delivery
from handlers.fanout import Fanout
from handlers.retelling import Retelling
from realtime.cluster import Cluster
from realtime.doubt import Doubt
from storage.members import MemberStore

LOOK_SECONDS: Final = 0.5
"""How soon it is noticed that the bus is away; that it takes the bus 2 s to know comes before."""
AWAY_SECONDS: Final = 1.5
"""How often the store is read from then on; with the read itself well below the 5 s that are promised."""
RETRY_SECONDS: Final = 0.5
USERS_AT_ONCE: Final = 256

log = structlog.get_logger()


Moved = Callable[[str, Sequence[str], Sequence[str]], Awaitable[None]]
"""To be told of a user, the rooms their devices were brought into, and those they were taken out of."""


class Healing:
    """One task that heals the rooms and users it is told of, and all of them while the bus is away.

    `on_moved` tells a user's devices on this node what the bus has not: the rooms they are in, or out of, now.
    """

    def __init__(
        self,
        cluster: Cluster,
        delivery: Delivery,
        fanout: Fanout,
        members: MemberStore,
        retelling: Retelling,
        doubt: Doubt,
        is_outage: Callable[[BaseException], bool],
    ) -> None:
        self._cluster = cluster
        self._delivery = delivery
        self._fanout = fanout
        self._members = members
        self._retelling = retelling
        self._doubt = doubt
        self._is_outage = is_outage
        self._rooms: dict[str, None] = {}
        self._users: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.on_moved: Moved | None = None
        cluster.on_gap = self._gap

    def start(self) -> None:
        """Begin to heal."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop healing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _gap(self, names: Sequence[str]) -> None:
        """The bus may have lost something for these rooms and users."""
        self._rooms.update(dict.fromkeys(name.removeprefix("room:") for name in names if name.startswith("room:")))
        self._users.update(dict.fromkeys(name.removeprefix("user:") for name in names if name.startswith("user:")))
        self._delivery.doubt(name.removeprefix("room:") for name in names if name.startswith("room:"))
        self._fanout.missed(names)
        self._wake.set()

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        next_read = now()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            if not self._cluster.hears_all and now() >= next_read:
                next_read = now() + AWAY_SECONDS
                self._rooms.update(dict.fromkeys(self._delivery.room_ids()))
                self._users.update(dict.fromkeys(self._fanout.users()))
            if self._rooms or self._users:
                await self._heal()
            elif self._cluster.hears_all:
                self._retelling.all_is_well()

    async def _heal(self) -> None:
        """First who is where, then what they are to be sent; what cannot be read now is healed later."""
        rooms, self._rooms = self._rooms, {}
        users, self._users = self._users, {}
        self._doubt.begin()
        try:
            for start in range(0, len(users), USERS_AT_ONCE):
                some = list(users)[start : start + USERS_AT_ONCE]
                for entered in await asyncio.gather(*(self._refresh(user_id) for user_id in some)):
                    rooms.update(dict.fromkeys(entered))
            await self._delivery.heal(list(rooms))
            await self._retelling.catch_up(list(rooms))
        except Exception as error:
            if not self._is_outage(error):
                log.exception("healing failed")
            self._rooms.update(rooms)
            self._users.update(users)
            await asyncio.sleep(RETRY_SECONDS)
            self._wake.set()

    async def _refresh(self, user_id: str) -> list[str]:
        """Bring a user's local devices into their rooms, and out of those that are theirs no more.

        Returns the rooms that they had to be brought into: those that the user became a member of lately. Where no
        other member's gate stands there, it opens where the user has read to: what came since is news to the devices.
        A session that is about to enter all its rooms by itself is left to do so.
        """
        with self._fanout.entering(user_id) as expelled:
            # What is entered or left by word while this reads is newer than what is read.
            present = self._fanout.rooms_of(user_id)
            memberships = await self._members.memberships_of(user_id)
            read = {membership.room_id: membership.read_seq for membership in memberships}
            gone = present - read.keys() - expelled
            for room_id in gone:
                self._fanout.leave(user_id, room_id)
            if self._fanout.is_entered_elsewhere(user_id):
                self._users[user_id] = None
                await self._tell_moved(user_id, [], list(gone))
                return []
            missing = read.keys() - self._fanout.rooms_of(user_id) - expelled
            for room_id in read.keys() - expelled:
                self._fanout.enter(user_id, room_id)
            for room_id in missing:
                self._delivery.start(room_id, read[room_id])
        await self._tell_moved(user_id, list(missing), list(gone))
        return list(missing)

    async def _tell_moved(self, user_id: str, entered: list[str], left: list[str]) -> None:
        if self.on_moved is not None and (entered or left):
            await self.on_moved(user_id, entered, left)
