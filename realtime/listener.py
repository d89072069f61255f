"""Keeps this node listening: connects, subscribes to what is wanted, notices a loss, and comes back by itself."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from realtime.links import Links
from realtime.redis_source import RedisSource
from realtime.shards import Shards
from realtime.subscriptions import Subscriptions

RETRY_SECONDS: Final = 0.25
SUBSCRIBE_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 0.5
SILENT_BEATS: Final = 4
"""So many heartbeats without a word from Redis, and the connection counts as lost; without one from a node, and it
counts as cut off. Noticing and reading the store must fit into the 5 s after which nothing may be missing."""
_MESSAGES: Final = frozenset({b"message", b"smessage"})
_SUBSCRIBED: Final = frozenset({b"subscribe", b"ssubscribe"})
_UNSUBSCRIBED: Final = frozenset({b"unsubscribe", b"sunsubscribe"})

log = structlog.get_logger()


class Listener:
    """`on_message(name, body)` gets what is said on the channels; `on_beat()` is called at every heartbeat;
    `on_opened(links)` when there are new connections, before anything is heard on them, and may raise to refuse them;
    `on_connected()` when all that is wanted is listened to (again); `on_gap(rooms)` says which rooms may have missed
    something. `losses` counts connections lost, `late` channels that
    stood after somebody had given up waiting for them.
    """

    def __init__(
        self,
        source: RedisSource,
        shards: Shards,
        *,
        on_message: Callable[[bytes, bytes], None],
        on_beat: Callable[[], None],
        on_opened: Callable[[Links], Any],
        on_connected: Callable[[], None],
        on_gap: Callable[[list[str]], None],
    ) -> None:
        self.connected = False
        self.losses = 0
        self.late = 0
        self._away = False
        self.rooms = Subscriptions()
        self._source = source
        self._shards = shards
        self._on_message = on_message
        self._on_beat = on_beat
        self._on_opened = on_opened
        self._on_connected = on_connected
        self._on_gap = on_gap
        self._wake = asyncio.Event()

    # --- which rooms ----------------------------------------------------------------------------------------------

    def join(self, room: str) -> None:
        """Listen to a room's channel from now on."""
        self.rooms.want(room)
        self._wake.set()

    def leave(self, room: str) -> None:
        """Listen to it no longer."""
        self.rooms.drop(room)
        self._wake.set()

    async def joined(self, rooms: Iterable[str]) -> None:
        """Returns when Redis has confirmed these rooms' channels, at once while it is away, after 1 s at most."""
        if self.connected:
            await self.rooms.stand(rooms, SUBSCRIBE_SECONDS)

    # --- listening ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen for ever."""
        while True:
            try:
                await self._listen_once()
            except* (RedisError, OSError) as errors:
                if not self._away:
                    log.warning("the bus is away", reason=str(errors.exceptions[0]))
            except* Exception:
                if not self._away:
                    log.exception("bus failed")
            self.losses += self.connected
            self.connected, self._away = False, True
            self.rooms.end()
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen_once(self) -> None:
        """The life of one set of connections, until one fails: subscribe to everything, then take what comes."""
        links = await Links.open(self._source, self._shards)
        try:
            await self._on_opened(links)
            self.rooms.begin()
            self._wake.set()
            async with asyncio.TaskGroup() as tasks:
                for link in links.listening:
                    tasks.create_task(self._read(link.read))
                tasks.create_task(self._beat(links))
                tasks.create_task(self._subscribe(links))
                raise ConnectionError(await links.lost)
        finally:
            await links.close()

    async def _subscribe(self, links: Links) -> None:
        """Bring Redis to what is wanted: the changes of a tick in one command."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            join, leave = self.rooms.take_changes()
            links.subscribe(join, self._shards)
            links.subscribe(leave, self._shards, leave=True)

    async def _beat(self, links: Links) -> None:
        """Have Redis say something now and then. Raises: TimeoutError when it does not."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for link in links.listening:
                # Not by the clock: after a pause of our own there is much to read, and nothing is lost.
                link.unheard += 1
                if link.unheard > SILENT_BEATS:
                    raise TimeoutError("the bus is silent")
                link.send([("PING",)])
            self._on_beat()

    async def _read(self, read: Callable[[], Any]) -> None:
        while True:
            for reply in await read():
                self._take(reply)
            if not self.connected and self.rooms.complete:
                self.connected, self._away = True, False
                log.info("bus connected", channels=len(self.rooms.wanted))
                self._on_connected()
                # All that was said meanwhile is missed.
                self._on_gap(list(self.rooms.wanted))

    def _take(self, reply: Any) -> None:
        """Take one reply. Raises: ConnectionError when it says that this connection is not to be listened to."""
        if isinstance(reply, Exception):
            raise ConnectionError(str(reply))
        kind = reply[0]
        if kind in _MESSAGES:
            self._on_message(reply[1], reply[2])
        elif kind in _SUBSCRIBED:
            room = self._shards.room(reply[1])
            if self.rooms.answered(room, subscribed=True) and self.connected:
                self.late += 1
                self._on_gap([room])
        elif kind in _UNSUBSCRIBED:
            room = self._shards.room(reply[1])
            if not self.rooms.expects_answer(room):
                raise ConnectionError("the channel has moved to another server")
            self.rooms.answered(room, subscribed=False)
