"""The bus between nodes: Redis pub/sub, one channel a room, listened to only where the room has a local member.

What a node publishes in one loop tick leaves in one script call, in order, which also writes the rooms' logs. A
publish is never awaited by an ack: what Redis loses, the receivers' gates find missing in MongoDB. After any gap the
bus says so, and whoever owns the gates heals them. Every node lets itself be heard twice a second, so that the others
know when one has died, or is cut off, with messages that it has stored and could not publish. A `request` is for
changes that must have taken hold before somebody is told: the nodes that got it answer, and it waits for them for a
second at most.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from realtime.envelope import ANSWER, BEAT, BYE, FRAME, HEAL, REQUEST, Envelopes, Frame, pack_frame, unpack
from realtime.frames import Packet
from realtime.outbox import EVERY_NODE, LOG, PUBLISH, RETRY_SECONDS, Outbox
from realtime.recovery_log import LogEntry, RecoveryLog
from realtime.redis_clock import RedisClock
from realtime.shards import Shards
from realtime.subscriptions import Subscriptions

ANSWER_SECONDS: Final = 1.0
SUBSCRIBE_SECONDS: Final = 1.0
SOCKET_SECONDS: Final = 2.0
HEARTBEAT_SECONDS: Final = 0.5
SILENT_BEATS: Final = 4
"""So many heartbeats without a word from Redis, and the connection counts as lost; without one from a node, and it
counts as cut off. Noticing and reading the store must fit into the 5 s after which nothing may be missing."""
FORGET_SECONDS: Final = 600.0
"""A node that has been silent for so long is taken for dead, with nothing left that only it knows of."""
CANCEL_SECONDS: Final = 0.5
SUBSCRIBE_CHUNK: Final = 1_000

log = structlog.get_logger()


OnFrame = Callable[[str, int | None, Packet, str | None, str | None], None]


class Cluster:
    """This node's end of the bus.

    `on_frame(room, seq, packet, skip, unless)` gets what other nodes publish; `on_request(fields)` a change to apply,
    also our own; `on_gap(rooms)` the rooms that may have missed something; `on_question[name](fields)` answers what
    other nodes ask, with whatever msgpack takes. All are synchronous. `heard_at` is the loop's time when the bus was
    heard last.
    """

    def __init__(self, url: str, prefix: str, node_id: str) -> None:
        self.node_id = node_id
        self.connected = False
        self.heard_at = 0.0
        self.on_frame: OnFrame = lambda room, seq, packet, skip, unless: None
        self.on_request: Callable[[list[Any]], None] = lambda fields: None
        self.on_gap: Callable[[list[str]], None] = lambda rooms: None
        self.on_question: dict[str, Callable[[list[Any]], Any]] = {}
        self._shards = Shards(prefix)
        self._envelopes = Envelopes(node_id)
        self._clock = RedisClock()
        self._redis = redis_client(url)
        self._listening = redis_client(url)
        self._pubsub: PubSub | None = None
        self._rooms = Subscriptions()
        self._rooms.want(f"node:{node_id}")
        self._rooms.want(EVERY_NODE)
        self._broken = False
        self._unpublished = False
        self._nodes: dict[str, float] = {}
        self._log = RecoveryLog(self._redis, prefix, self._shards)
        self._outbox = Outbox(
            self._redis,
            self._shards,
            self._log,
            self._clock,
            head=self._envelopes.frame_head,
            heal=self._envelopes.pack(HEAL),
            connected=lambda: self.connected,
        )
        self._answers: dict[int, tuple[dict[tuple[str, str], Any], asyncio.Event]] = {}
        self._numbers = itertools.count(1)
        self._wake_subscriber = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect in the background; a Redis that is away is tried again until it is there."""
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._outbox.run()),
            asyncio.create_task(self._subscribe_all()),
        ]

    async def stop(self) -> None:
        """Say goodbye and send what is pending if Redis is there, then close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOCKET_SECONDS):
                if self.connected:
                    self._put(EVERY_NODE, BYE)
                    await self._outbox.flushed.wait()
        self.connected = False
        pending = set(self._tasks)
        while pending:
            # Again if need be: Python 3.11's wait_for, by which the driver sends, can swallow a cancellation.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()
        await self._listening.aclose()

    @property
    def failed_publishes(self) -> int:
        """Publishes that Redis did not take, since the start."""
        return self._outbox.failed

    async def ping(self) -> None:
        """One round trip. Raises: RedisError, OSError or TimeoutError when Redis does not answer."""
        async with asyncio.timeout(SOCKET_SECONDS):
            await self._redis.ping()

    @property
    def hears_all(self) -> bool:
        """Whether the bus is there, and no node has gone silent on it that did not say goodbye."""
        latest = asyncio.get_running_loop().time() - SILENT_BEATS * HEARTBEAT_SECONDS
        return self.connected and all(heard > latest for heard in self._nodes.values())

    # --- what was said lately -------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The time by Redis's clock, estimated, so that all nodes agree; by our own until Redis was reached."""
        return self._clock.now_ms()

    async def read_log(self, rooms: Sequence[str], since_ms: int) -> tuple[dict[str, list[LogEntry]], bool]:
        """What was said with an offset to these rooms since a moment, oldest first, and whether that is all of it.

        It is not when a log was cut beyond the moment, when a node could not write to it, or when it is too much.
        Raises: RedisError, OSError when Redis is away.
        """
        return await self._log.read(rooms, since_ms)

    async def flushed(self) -> None:
        """Returns once Redis has got, or lost, what was published so far."""
        arrived = asyncio.get_running_loop().create_future()
        self._put(f"node:{self.node_id}", BEAT, receivers=arrived)
        await arrived

    # --- which rooms ----------------------------------------------------------------------------------------------

    def join(self, room: str) -> None:
        """Listen to a room's channel from now on."""
        self._rooms.want(room)
        self._wake_subscriber.set()

    def leave(self, room: str) -> None:
        """Listen to it no longer."""
        self._rooms.drop(room)
        self._wake_subscriber.set()

    async def joined(self, rooms: Iterable[str]) -> None:
        """Returns when Redis has confirmed these rooms' channels, at once while it is away, after 1 s at most.

        Whoever gave up waiting is told of a gap when the channel stands after all.
        """
        if self.connected:
            await self._rooms.stand(rooms, SUBSCRIBE_SECONDS)

    async def _subscribe_all(self) -> None:
        """Bring Redis to what is wanted: the changes of a tick in one command."""
        while True:
            await self._wake_subscriber.wait()
            self._wake_subscriber.clear()
            pubsub = self._pubsub
            if pubsub is None:
                continue
            try:
                await self._send_changes(pubsub)
            except Exception as error:
                log.warning("subscriptions not sent", reason=type(error).__name__)
                self._broken = self._broken or self._pubsub is pubsub

    async def _send_changes(self, pubsub: PubSub) -> None:
        """Straight to the connection: PubSub's own methods would make it anew, under the listener that reads from it.

        Raises: ConnectionError, or the driver's errors.
        """
        join, leave = self._rooms.take_changes()
        for command, rooms in (("SUBSCRIBE", join), ("UNSUBSCRIBE", leave)):
            for start in range(0, len(rooms), SUBSCRIBE_CHUNK):
                connection: Connection | None = pubsub.connection
                if self._pubsub is not pubsub or connection is None or not connection.is_connected:
                    raise ConnectionError("the connection has gone")
                channels = [self._shards.name(room) for room in rooms[start : start + SUBSCRIBE_CHUNK]]
                await connection.send_command(command, *channels, check_health=False)

    # --- listening ------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:
                if self.connected:
                    log.warning("bus lost", reason=type(error).__name__)
            except Exception:
                log.exception("bus failed")
            self.connected = False
            self._rooms.end()
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen_once(self) -> None:
        """One connection's life: subscribe to everything, tell of the gap, then take what comes."""
        loop = asyncio.get_running_loop()
        pubsub = self._listening.pubsub()
        try:
            await pubsub.connect()  # type: ignore[no-untyped-call]
            self._broken = False
            self._rooms.begin()
            self._pubsub = pubsub
            self._wake_subscriber.set()
            beat, silent = loop.time(), 0
            while not self._broken:
                message = await pubsub.get_message(timeout=HEARTBEAT_SECONDS)
                # Not by the clock: after a pause of our own there is much to read, and nothing is lost.
                silent = 0 if message is not None else silent + 1
                if silent >= SILENT_BEATS:
                    raise TimeoutError("the bus is silent")
                if message is not None:
                    self._take(message)
                if loop.time() - beat >= HEARTBEAT_SECONDS:
                    beat = loop.time()
                    await pubsub.ping()
                    self._beat()
                if not self.connected and self._rooms.complete:
                    self._announce()
            raise ConnectionError("a subscription could not be sent")
        finally:
            self._pubsub = None
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _announce(self) -> None:
        """All that is wanted is listened to again: what was said meanwhile is missed."""
        self.connected = True
        self._outbox.connected_again()
        log.info("bus connected", channels=len(self._rooms.wanted))
        self._beat()
        self.on_gap(list(self._rooms.wanted))

    def _beat(self) -> None:
        """Be heard by the other nodes, and forget those that have been silent for too long."""
        if self.connected:
            self._put(EVERY_NODE, BEAT)
        earliest = asyncio.get_running_loop().time() - FORGET_SECONDS
        self._nodes = {node: heard for node, heard in self._nodes.items() if heard > earliest}

    def _take(self, message: dict[str, Any]) -> None:
        channel, body = message.get("channel"), message["data"]
        self.heard_at = asyncio.get_running_loop().time()
        if message["type"] == "message" and self._envelopes.is_own_echo(body):
            return
        try:
            room = self._shards.room(channel) if isinstance(channel, bytes) else ""
            if message["type"] == "message":
                _, origin, kind, fields = unpack(body)
                self._dispatch(room, kind, origin, fields)
            elif message["type"] in ("subscribe", "unsubscribe"):
                late = self._rooms.answered(room, subscribed=message["type"] == "subscribe")
                if late and self.connected:
                    self.on_gap([room])
        except Exception as error:
            log.warning("bus message dropped", reason=type(error).__name__)

    def _dispatch(self, room: str, kind: int, origin: str, fields: list[Any]) -> None:
        if kind == REQUEST:
            number, *change = fields
            if origin == self.node_id:
                self._answered(number, origin, room)
                return
            answer = self._apply(change)
            self._put(f"node:{origin}", ANSWER, number, room, answer)
        elif kind == ANSWER:
            self._answered(fields[0], origin, *fields[1:])
        if origin not in self._nodes:
            # It is to know us as well before it can come to miss us, and to read what we have not published for it.
            self._put(EVERY_NODE, BEAT)
            if self._unpublished:
                self._unpublished = False
                self._put(f"node:{origin}", HEAL)
        self._nodes[origin] = asyncio.get_running_loop().time()
        if kind == FRAME:
            offset, skip, unless, seq, payload = Frame(*fields)
            self.on_frame(room, seq, Packet(payload, offset=offset), skip, unless)
        elif kind == HEAL:
            self.on_gap(list(self._rooms.wanted) if room.startswith("node:") else [room])
        elif kind == BYE:
            del self._nodes[origin]

    def _apply(self, change: list[Any]) -> Any:
        question = self.on_question.get(change[0]) if change and isinstance(change[0], str) else None
        if question is not None:
            return question(change[1:])
        self.on_request(change)
        return None

    def _answered(self, number: int, origin: str, room: str, answer: Any = None) -> None:
        if number in self._answers:
            answers, arrived = self._answers[number]
            answers[origin, room] = answer
            arrived.set()

    # --- publishing -----------------------------------------------------------------------------------------------

    def publish(
        self, room: str, seq: int | None, packet: Packet, *, skip: str | None = None, unless: str | None = None
    ) -> None:
        """Send a packet to the other nodes' members of a room, but the session `skip` and those in the room `unless`.

        With a `seq` it passes their gate; with an offset it goes into the room's log, too. A node that knows of no
        other one publishes nothing: one that comes is told to read what it has missed as soon as it is known.
        """
        alone = self.connected and not self._nodes
        self._unpublished = self._unpublished or alone
        mode = (0 if alone else PUBLISH) + (0 if packet.offset is None else LOG)
        if mode:
            self._outbox.put_frame(room, pack_frame(packet, seq, skip, unless), mode)

    def _put(self, room: str, kind: int, *fields: Any, receivers: asyncio.Future[int] | None = None) -> None:
        self._outbox.put(room, self._envelopes.pack(kind, *fields), receivers)

    async def request(self, rooms: list[str], change: list[Any]) -> bool:
        """Apply a change on every node that listens to any of these rooms, behind what was published before.

        Returns whether all nodes that got it have answered within 1 s; False at once while Redis is away.
        """
        return (await self._request(rooms, change))[1]

    async def ask(self, room: str, question: str, *fields: Any) -> tuple[list[Any], bool]:
        """Ask every other node that listens to this room; whoever asks answers for itself.

        Returns the answers, and whether they are all: not while Redis is away, or when a node took more than 1 s.
        """
        answers, complete = await self._request([room], [question, *fields])
        return [answer for (origin, _), answer in answers.items() if origin != self.node_id], complete

    async def _request(self, rooms: list[str], change: list[Any]) -> tuple[dict[tuple[str, str], Any], bool]:
        loop = asyncio.get_running_loop()
        number, arrived = next(self._numbers), asyncio.Event()
        answers: dict[tuple[str, str], Any] = {}
        self._answers[number] = (answers, arrived)
        receivers = [loop.create_future() for _ in rooms]
        try:
            for room, future in zip(rooms, receivers, strict=True):
                self._put(room, REQUEST, number, *change, receivers=future)
            async with asyncio.timeout(ANSWER_SECONDS):
                counts = await asyncio.gather(*receivers)
                if min(counts) < 0:
                    return answers, False
                while len(answers) < sum(counts):
                    arrived.clear()
                    await arrived.wait()
            return answers, True
        except TimeoutError:
            log.warning("nodes did not confirm a change", channels=len(rooms))
            return answers, False
        finally:
            del self._answers[number]


def redis_client(url: str) -> "Redis":
    """A client that does not try again: whoever uses it knows what a failure means."""
    return Redis.from_url(
        url,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
