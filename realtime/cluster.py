"""The bus between nodes: Redis pub/sub, one channel a room, listened to only where the room has a local member.

What a node publishes in one loop tick leaves in one pipeline, in order. A publish is never awaited by an ack: what
Redis loses, the receivers' gates find missing in MongoDB. After any gap the bus says so, and whoever owns the gates
heals them. A `request` is for changes that must have taken hold before somebody is told: the nodes that got it
answer, and it waits for them for a second at most.

Envelope: msgpack `[version, kind, origin node, fields…]`; nothing is ever unpickled.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgpack
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

VERSION: Final = 1
ANSWER_SECONDS: Final = 1.0
SUBSCRIBE_SECONDS: Final = 1.0
SOCKET_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.25
HEARTBEAT_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 3.0
"""Without an answer to our pings for so long the connection counts as lost."""
MAX_PENDING: Final = 20_000
"""Publishes that may wait for Redis; what does not fit is counted, and its rooms are healed when Redis is back."""
SUBSCRIBE_CHUNK: Final = 1_000

_FRAME, _REQUEST, _ANSWER, _HEAL = "frame", "request", "answer", "heal"

log = structlog.get_logger()

Publish = tuple[str, bytes, asyncio.Future[int] | None]
"""A room, an envelope, and who wants to know how many nodes got it (-1: none, Redis is away)."""


class Cluster:
    """This node's end of the bus.

    `on_frame(room, seq, payload)` gets what other nodes publish; `on_request(fields)` a change to apply, also
    our own; `on_gap(rooms)` the rooms that may have missed something. All are synchronous.
    """

    def __init__(self, url: str, prefix: str, node_id: str) -> None:
        self.node_id = node_id
        self.connected = False
        self.failed_publishes = 0
        self.on_frame: Callable[[str, int | None, bytes], None] = lambda room, seq, payload: None
        self.on_request: Callable[[list[Any]], None] = lambda fields: None
        self.on_gap: Callable[[list[str]], None] = lambda rooms: None
        self._prefix = f"{prefix}:bus:"
        self._home = f"{self._prefix}node:{node_id}"
        self._redis = _client(url)
        self._listening = _client(url)
        self._pubsub: PubSub | None = None
        self._wanted: dict[str, None] = {}
        self._confirmed: set[str] = set()
        self._changed: dict[str, None] = {}
        self._confirmations: dict[str, list[asyncio.Future[None]]] = {}
        self._outbox: list[Publish] = []
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._missed: dict[str, None] = {}
        self._answers: dict[int, tuple[set[tuple[str, str]], asyncio.Event]] = {}
        self._numbers = itertools.count(1)
        self._wake_publisher = asyncio.Event()
        self._wake_subscriber = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect in the background; a Redis that is away is tried again until it is there."""
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._publish_all()),
            asyncio.create_task(self._subscribe_all()),
        ]

    async def stop(self) -> None:
        """Send what is pending if Redis is there, then close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOCKET_SECONDS):
                if self.connected:
                    await self._flushed.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()
        await self._listening.aclose()

    async def ping(self) -> None:
        """One round trip. Raises: RedisError, OSError or TimeoutError when Redis does not answer."""
        async with asyncio.timeout(SOCKET_SECONDS):
            await self._redis.ping()

    # --- which rooms ----------------------------------------------------------------------------------------------

    def join(self, room: str) -> None:
        """Listen to a room's channel from now on."""
        self._wanted[room] = None
        self._note_change(room)

    def leave(self, room: str) -> None:
        """Listen to it no longer."""
        self._wanted.pop(room, None)
        self._note_change(room)

    def _note_change(self, room: str) -> None:
        self._changed[room] = None
        self._wake_subscriber.set()

    async def joined(self, rooms: Iterable[str]) -> None:
        """Returns when Redis has confirmed these rooms' channels, at once while it is away, after 1 s at most."""
        waits = []
        for room in rooms:
            if self.connected and room in self._wanted and room not in self._confirmed:
                confirmation = asyncio.get_running_loop().create_future()
                self._confirmations.setdefault(room, []).append(confirmation)
                waits.append(confirmation)
        if waits:
            await asyncio.wait(waits, timeout=SUBSCRIBE_SECONDS)

    async def _subscribe_all(self) -> None:
        """Bring Redis to what is wanted: the changes of a tick in one command."""
        while True:
            await self._wake_subscriber.wait()
            self._wake_subscriber.clear()
            if self._pubsub is None or not self.connected:
                continue
            changed, self._changed = list(self._changed), {}
            await self._send_changes(changed)

    async def _send_changes(self, rooms: list[str]) -> None:
        pubsub = self._pubsub
        if pubsub is None:
            return
        join = [self._prefix + room for room in rooms if room in self._wanted]
        leave = [self._prefix + room for room in rooms if room not in self._wanted]
        try:
            for start in range(0, len(join), SUBSCRIBE_CHUNK):
                await pubsub.subscribe(*join[start : start + SUBSCRIBE_CHUNK])
            for start in range(0, len(leave), SUBSCRIBE_CHUNK):
                await pubsub.unsubscribe(*leave[start : start + SUBSCRIBE_CHUNK])
        except (RedisError, OSError):
            self._changed.update(dict.fromkeys(rooms))

    # --- listening ------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError, TimeoutError) as error:
                if self.connected:
                    log.warning("bus lost", reason=type(error).__name__)
            self._lost()
            await asyncio.sleep(RETRY_SECONDS)

    def _lost(self) -> None:
        self.connected = False
        self._confirmed.clear()
        for waits in self._confirmations.values():
            for confirmation in waits:
                if not confirmation.done():
                    confirmation.set_result(None)
        self._confirmations.clear()

    async def _listen_once(self) -> None:
        """One connection's life: subscribe to everything, tell of the gap, then take what comes."""
        loop = asyncio.get_running_loop()
        pubsub = self._listening.pubsub()
        try:
            await pubsub.subscribe(self._home)
            self._pubsub = pubsub
            self._changed.clear()
            await self._send_changes(list(self._wanted))
            heard = pinged = loop.time()
            announced = False
            while True:
                message = await pubsub.get_message(timeout=HEARTBEAT_SECONDS)
                now = loop.time()
                if message is not None:
                    heard = now
                    self._take(message)
                if now - pinged >= HEARTBEAT_SECONDS:
                    pinged = now
                    await pubsub.ping()
                if now - heard > SILENCE_SECONDS:
                    raise TimeoutError("the bus is silent")
                if not announced and self._confirmed.issuperset(self._wanted):
                    announced = self.connected = True
                    self._wake_subscriber.set()
                    self._wake_publisher.set()
                    log.info("bus connected", rooms=len(self._wanted))
                    self.on_gap(list(self._wanted))
        finally:
            self._pubsub = None
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _take(self, message: dict[str, Any]) -> None:
        channel = message.get("channel")
        room = channel[len(self._prefix) :].decode() if isinstance(channel, bytes) else ""
        if message["type"] == "subscribe":
            if room in self._wanted:
                self._confirmed.add(room)
            for confirmation in self._confirmations.pop(room, ()):
                if not confirmation.done():
                    confirmation.set_result(None)
        elif message["type"] == "unsubscribe":
            self._confirmed.discard(room)
            if room in self._wanted:
                self._note_change(room)
        elif message["type"] == "message":
            try:
                version, kind, origin, *fields = msgpack.unpackb(message["data"])
                if version == VERSION:
                    self._dispatch(room, kind, origin, fields)
            except (ValueError, TypeError, KeyError, msgpack.UnpackException):
                log.warning("bus message dropped", channel_room=room)

    def _dispatch(self, room: str, kind: str, origin: str, fields: list[Any]) -> None:
        if kind == _FRAME:
            if origin != self.node_id:
                self.on_frame(room, *fields)
        elif kind == _HEAL:
            if origin != self.node_id:
                self.on_gap([room])
        elif kind == _REQUEST:
            number, *change = fields
            if origin != self.node_id:
                self.on_request(change)
                self._put(f"node:{origin}", _ANSWER, number, room)
            else:
                self._answered(number, origin, room)
        elif kind == _ANSWER:
            self._answered(fields[0], origin, fields[1])

    def _answered(self, number: int, origin: str, room: str) -> None:
        if number in self._answers:
            answers, arrived = self._answers[number]
            answers.add((origin, room))
            arrived.set()

    # --- publishing -----------------------------------------------------------------------------------------------

    def publish(self, room: str, seq: int | None, payload: bytes) -> None:
        """Send a packet to the other nodes' members of a room. With a `seq` it passes their gate."""
        self._put(room, _FRAME, seq, payload)

    def _put(self, room: str, kind: str, *fields: Any, receivers: asyncio.Future[int] | None = None) -> None:
        body = msgpack.packb([VERSION, kind, self.node_id, *fields])
        if len(self._outbox) >= MAX_PENDING:
            self._fail([(room, body, receivers)])
            return
        self._outbox.append((room, body, receivers))
        self._flushed.clear()
        self._wake_publisher.set()

    def _fail(self, batch: list[Publish]) -> None:
        self.failed_publishes += len(batch)
        for room, _, receivers in batch:
            if not room.startswith("node:"):
                self._missed[room] = None
            if receivers is not None and not receivers.done():
                receivers.set_result(-1)

    async def _publish_all(self) -> None:
        """One pipeline at a time, so that what is published in order arrives in order."""
        while True:
            await self._wake_publisher.wait()
            self._wake_publisher.clear()
            if self._missed and self.connected:
                missed, self._missed = list(self._missed), {}
                heal = msgpack.packb([VERSION, _HEAL, self.node_id])
                self._outbox[:0] = [(room, heal, None) for room in missed]
            while self._outbox:
                batch, self._outbox = self._outbox, []
                if not self.connected or not await self._send(batch):
                    self._fail(batch)
                    asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake_publisher.set)
            self._flushed.set()

    async def _send(self, batch: list[Publish]) -> bool:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for room, body, _ in batch:
                    pipeline.publish(self._prefix + room, body)
                counts = await pipeline.execute()
        except (RedisError, OSError):
            return False
        for (_, _, receivers), count in zip(batch, counts, strict=True):
            if receivers is not None and not receivers.done():
                receivers.set_result(count)
        return True

    async def request(self, rooms: list[str], change: list[Any]) -> bool:
        """Apply a change on every node that listens to any of these rooms, behind what was published before.

        Returns whether all nodes that got it have answered within 1 s; False at once while Redis is away.
        """
        loop = asyncio.get_running_loop()
        number, arrived = next(self._numbers), asyncio.Event()
        answers: set[tuple[str, str]] = set()
        self._answers[number] = (answers, arrived)
        receivers = [loop.create_future() for _ in rooms]
        try:
            for room, future in zip(rooms, receivers, strict=True):
                self._put(room, _REQUEST, number, *change, receivers=future)
            async with asyncio.timeout(ANSWER_SECONDS):
                counts = await asyncio.gather(*receivers)
                if min(counts) < 0:
                    return False
                while len(answers) < sum(counts):
                    arrived.clear()
                    await arrived.wait()
            return True
        except TimeoutError:
            log.warning("nodes did not confirm a change", missing=len(rooms))
            return False
        finally:
            del self._answers[number]


def _client(url: str) -> "Redis":
    return Redis.from_url(
        url,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
