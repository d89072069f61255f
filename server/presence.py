"""Typing and presence put together: what they are made of, opened and closed as one."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from handlers.fanout import Fanout
from handlers.sightings import Sightings
from handlers.typing_fanout import TypingFanout
from handlers.watch_rights import WatchRights
from handlers.watching import KIND, Watching
from presence.tracker import Tracker
from realtime.cluster import Cluster
from realtime.manager import Manager
from realtime.redis_source import RedisSource
from storage.blocks import BlockStore
from storage.last_seen import LastSeenStore
from storage.members import MemberStore
from storage.mongo import Mongo
from storage.rooms import RoomStore

REDIS_SECONDS: Final = 1.0
"""Longest wait for one answer of Redis about presence."""


@dataclass(frozen=True, slots=True)
class PresenceParts:
    """The parts, for the bundle that handlers use."""

    tracker: Tracker
    watching: Watching
    watch_rights: WatchRights
    typing: TypingFanout
    last_seen: LastSeenStore

    def start(self) -> None:
        """Begin to tell and to listen."""
        self.last_seen.start()
        self.tracker.start()
        self.watch_rights.start()

    async def close(self) -> None:
        """Stop, and store what is not stored yet."""
        self.typing.close()
        await self.watch_rights.close()
        await self.watching.close()
        await self.tracker.close()
        await self.last_seen.close()


def make_presence(
    *,
    redis: RedisSource,
    redis_prefix: str,
    open_to_all: bool,
    mongo: Mongo,
    manager: Manager,
    cluster: Cluster,
    fanout: Fanout,
    rooms: RoomStore,
    members: MemberStore,
    blocks: BlockStore,
) -> PresenceParts:
    """The parts, joined, to be made inside the running loop."""
    now = asyncio.get_running_loop().time
    tracker = Tracker(
        redis.client(timeout_seconds=REDIS_SECONDS, text=True),
        redis_prefix,
        cluster.node_id,
        now=now,
        epoch_ms=lambda: time.time_ns() // 1_000_000,
    )
    last_seen = LastSeenStore(mongo, now)
    watching = Watching(manager, cluster, tracker, Sightings(tracker, last_seen))
    fanout.listeners[KIND] = watching
    rights = WatchRights(manager, fanout, watching, rooms, members, blocks, open_to_all=open_to_all)

    def note_seen(moments: Mapping[str, int]) -> None:
        last_seen.note({user_id: datetime.fromtimestamp(at / 1000, UTC) for user_id, at in moments.items()})

    typing = TypingFanout(fanout)

    def note_left(user_id: str, room_id: str) -> None:
        typing.ended(room_id, user_id)
        rights.left(user_id)

    tracker.on_seen = note_seen
    fanout.on_left = note_left
    return PresenceParts(tracker, watching, rights, typing, last_seen)
