"""Where a room is in Redis: under one name that is its channel as well as the key of its log.

Names have one of a few hash tags, so that in a Redis Cluster what a node has to say in one tick to all its rooms is
few commands.
"""

from typing import Final
from zlib import crc32

SHARDS: Final = 64
"""Hash tags: more than the masters of a cluster, so that rooms spread evenly, and few enough for one command each."""


class Shards:
    """The names under a prefix; `tags` is what the names of each shard begin with."""

    def __init__(self, prefix: str) -> None:
        self.tags = [f"{{{prefix}:{number:02}}}:" for number in range(SHARDS)]
        self._tag_length = len(self.tags[0])

    def name(self, room: str) -> str:
        """The Redis name of a room."""
        return self.tags[crc32(room.encode()) % SHARDS] + room

    def room(self, name: bytes) -> str:
        """The room of a Redis name that is one of ours."""
        return name[self._tag_length :].decode()


def shard_of(room: str) -> int:
    """The number of a room's hash tag."""
    return crc32(room.encode()) % SHARDS
