"""All connections of the bus at one time: to each Redis server one that publishes and one that listens."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from redis.exceptions import ResponseError

from realtime.link import Link
from realtime.redis_source import RedisSource
from realtime.shards import Shards, shard_of

CONNECT_SECONDS: Final = 0.6
"""A server that takes longer to let us in is tried anew: it may have been replaced meanwhile."""
CALL_SECONDS: Final = 2.0
SUBSCRIBE_CHUNK: Final = 1_000
"""Channels in one command."""

Command = tuple[Any, ...]


class Links:
    """What fails once is given up as a whole, and made anew: `lost` is set, with the reason.

    A cluster's masters each have some of the shards; any other Redis has all of them.
    """

    def __init__(self, sharded: bool, servers: list[str], of_shard: list[int], links: list[tuple[Link, Link]]) -> None:
        self.sharded = sharded
        self.servers = servers
        self.publishing = [publishing for publishing, _ in links]
        self.listening = [listening for _, listening in links]
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._of_shard = of_shard

    @classmethod
    async def open(cls, source: RedisSource, shards: Shards) -> "Links":
        """Find the servers and connect to them. Raises: RedisError, OSError or TimeoutError."""
        located = await source.locate(shards.tags)
        servers = sorted(set(located))

        def link(server: str) -> Link:
            return Link(source.connection(server, timeout_seconds=CONNECT_SECONDS))

        links = [(link(server), link(server)) for server in servers]
        opened = cls(source.sharded, servers, [servers.index(server) for server in located], links)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                # All of them to the end, or one that is late would stay open when another has failed.
                tries = (link.open() for link in [*opened.publishing, *opened.listening])
                for failure in await asyncio.gather(*tries, return_exceptions=True):
                    if failure is not None:
                        raise failure
        except BaseException:
            await opened.close()
            raise
        return opened

    async def close(self) -> None:
        """Close them."""
        for link in [*self.publishing, *self.listening]:
            await link.close()
        self.fail("closed")

    def fail(self, reason: str) -> None:
        """These are of no use any more."""
        if not self.lost.done():
            self.lost.set_result(reason)

    # --- publishing -----------------------------------------------------------------------------------------------

    async def call(self, commands: list[tuple[int, Command]]) -> list[Any]:
        """Carry out commands, each at the server of its shard; an error reply is a ResponseError among the replies.

        Raises: RedisError, OSError or TimeoutError, after which the links are lost.
        """
        try:
            async with asyncio.timeout(CALL_SECONDS):
                if len(self.publishing) == 1:
                    return await self.publishing[0].call([command for _, command in commands])
                by_server: dict[int, list[int]] = defaultdict(list)
                for position, (shard, _) in enumerate(commands):
                    by_server[self._of_shard[shard]].append(position)
                replies: list[Any] = [None] * len(commands)
                answers = await asyncio.gather(
                    *(
                        self.publishing[server].call([commands[position][1] for position in positions])
                        for server, positions in by_server.items()
                    )
                )
                for positions, answer in zip(by_server.values(), answers, strict=True):
                    for position, reply in zip(positions, answer, strict=True):
                        replies[position] = reply
                return replies
        except BaseException as error:
            self.fail(type(error).__name__)
            raise

    async def one(self, *command: Any) -> Any:
        """Carry out a command on a key of the first shard. Raises: as `call`, and ResponseError for an error reply."""
        if self.lost.done():
            raise ConnectionError(self.lost.result())
        reply = (await self.call([(0, command)]))[0]
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def everywhere(self, command: Command) -> list[Any]:
        """Carry out a command at every server. Raises: as `call`."""
        firsts = [self._of_shard.index(server) for server in range(len(self.servers))]
        return await self.call([(shard, command) for shard in firsts])

    async def runs(self) -> str:
        """What tells these servers, since they last started, from others; as far as they let us know.

        Raises: as `call`.
        """
        told = []
        for reply in await self.everywhere(("INFO", "server")):
            lines = reply.split(b"\r\n") if isinstance(reply, bytes) else []
            told += [line.removeprefix(b"run_id:").decode() for line in lines if line.startswith(b"run_id:")]
        return " ".join(sorted(told))

    # --- listening ------------------------------------------------------------------------------------------------

    def subscribe(self, rooms: Iterable[str], shards: Shards, *, leave: bool = False) -> None:
        """Listen to the channels of rooms, or no longer."""
        command = ("S" if self.sharded else "") + ("UNSUBSCRIBE" if leave else "SUBSCRIBE")
        names: dict[int, list[str]] = defaultdict(list)
        for room in rooms:
            names[shard_of(room) if self.sharded else 0].append(shards.name(room))
        by_server: dict[int, list[Command]] = defaultdict(list)
        for shard, channels in names.items():
            for start in range(0, len(channels), SUBSCRIBE_CHUNK):
                by_server[self._of_shard[shard]].append((command, *channels[start : start + SUBSCRIBE_CHUNK]))
        for server, commands in by_server.items():
            self.listening[server].send(commands)


def is_missing_script(reply: Any) -> bool:
    """Whether Redis does not know the script that it was to run."""
    return isinstance(reply, ResponseError) and str(reply).startswith("NOSCRIPT")
