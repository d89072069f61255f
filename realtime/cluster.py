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
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog

from realtime.envelope import ANSWER, BEAT, BYE, FRAME, HEAL, REQUEST, Envelopes, Frame, pack_frame, unpack
from realtime.frames import Packet
from realtime.links import Links
from realtime.listener import HEARTBEAT_SECONDS, SILENT_BEATS, Listener
from realtime.outbox import EVERY_NODE, Outbox
from realtime.publisher import LOG, PUBLISH, Publisher
from realtime.recovery_log import LogEntry, RecoveryLog
from realtime.redis_clock import RedisClock
from realtime.redis_source import RedisSource
from realtime.requests import Requests
from realtime.shards import Shards

COMMAND_SECONDS: Final = 2.0
FORGET_SECONDS: Final = 600.0
"""A node that has been silent for so long is taken for dead, with nothing left that only it knows of."""
SETTLE_SECONDS: Final = 1.0
"""How long the start of a node is held up for the bus: what is said before it is there, others hear late."""
CANCEL_SECONDS: Final = 0.5

log = structlog.get_logger()

OnFrame = Callable[[str, int | None, Packet, str | None, str | None], None]


class Cluster:
    """This node's end of the bus.

    `on_frame(room, seq, packet, skip, unless)` gets what other nodes publish; `on_request(fields)` a change to apply,
    also our own; `on_gap(rooms)` the rooms that may have missed something; `on_question[name](fields)` answers what
    other nodes ask, with whatever msgpack takes. All are synchronous.

    `taken` counts what was heard of other nodes, `echoes` our own that came back, `doubted` rooms told of by `on_gap`.
    """

    def __init__(self, source: RedisSource, prefix: str, node_id: str) -> None:
        self.node_id = node_id
        self.on_frame: OnFrame = lambda room, seq, packet, skip, unless: None
        self.on_gap: Callable[[list[str]], None] = lambda rooms: None
        self.taken = 0
        self.echoes = 0
        self.doubted = 0
        self._redis = source.client(timeout_seconds=COMMAND_SECONDS, retries=1)
        self._shards = Shards(prefix)
        self._envelopes = Envelopes(node_id)
        self._clock = RedisClock()
        self._nodes: dict[str, float] = {}
        self._sharded = source.sharded
        self._unpublished = False
        self._requests = Requests(node_id, self._put)
        self.on_question = self._requests.on_question
        self._listener = Listener(
            source,
            self._shards,
            on_message=self._take,
            on_beat=self._beat,
            on_opened=self._opened,
            on_connected=self._connected,
            on_gap=self._gap,
        )
        self._listener.join(f"node:{node_id}")
        self._listener.join(EVERY_NODE)
        self._log = RecoveryLog(self._redis, self._shards, sharded=source.sharded)
        self._publisher = Publisher(self._shards, self._clock, head=self._envelopes.frame_head, sharded=source.sharded)
        self._outbox = Outbox(
            self._publisher,
            self._log,
            self._clock,
            heal=self._envelopes.pack(HEAL),
            connected=lambda: self.connected,
        )
        self._settled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def on_request(self) -> Callable[[list[Any]], None]:
        """Takes another node's change."""
        return self._requests.on_request

    @on_request.setter
    def on_request(self, apply: Callable[[list[Any]], None]) -> None:
        self._requests.on_request = apply

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect in the background; a Redis that is away is tried again until it is there."""
        self._tasks = [asyncio.create_task(self._listener.run()), asyncio.create_task(self._outbox.run())]

    async def settle(self) -> None:
        """Returns when the bus was connected for the first time, or after a second: one serves without it, too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._settled.wait()

    async def stop(self) -> None:
        """Say goodbye and send what is pending if Redis is there, then close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMMAND_SECONDS):
                if self.connected:
                    self._put(EVERY_NODE, BYE)
                    await self._outbox.flushed.wait()
        pending = set(self._tasks)
        while pending:
            # Again if need be: Python 3.11's wait_for, by which the driver connects, can swallow a cancellation.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.connected = False
        await self._redis.aclose()

    @property
    def connected(self) -> bool:
        """Whether Redis is there and everything wanted is listened to."""
        return self._listener.connected

    @property
    def published(self) -> int:
        """Publishes that Redis took, since the start."""
        return self._publisher.published

    @property
    def failed_publishes(self) -> int:
        """Publishes that Redis did not take, since the start."""
        return self._outbox.failed

    @property
    def losses(self) -> int:
        """How often the connection was lost, since the start."""
        return self._listener.losses

    @property
    def late_channels(self) -> int:
        """Channels that stood only after somebody had given up waiting for them, since the start."""
        return self._listener.late

    async def ping(self) -> None:
        """One round trip. Raises: RedisError, OSError or TimeoutError when Redis does not answer."""
        async with asyncio.timeout(COMMAND_SECONDS):
            await self._redis.ping()

    @property
    def hears_all(self) -> bool:
        """Whether the bus is there, and no node has gone silent on it that did not say goodbye."""
        latest = asyncio.get_running_loop().time() - SILENT_BEATS * HEARTBEAT_SECONDS
        return self.connected and all(heard > latest for heard in self._nodes.values())

    @property
    def heard_at(self) -> float:
        """The loop's time when the bus was heard last."""
        return self._listener.heard_at

    async def _opened(self, links: Links) -> None:
        """New connections: to whatever Redis there is now. Raises: RedisError, OSError."""
        await self._log.met(links, self._clock.now_ms())
        await self._publisher.use(links)

    def _gap(self, rooms: list[str]) -> None:
        self.doubted += len(rooms)
        self.on_gap(rooms)

    def _connected(self) -> None:
        self._settled.set()
        self._outbox.wake()
        self._beat()

    def _beat(self) -> None:
        """Be heard by the other nodes, and forget those that have been silent for too long."""
        if self.connected:
            self._put(EVERY_NODE, BEAT)
        earliest = asyncio.get_running_loop().time() - FORGET_SECONDS
        self._nodes = {node: heard for node, heard in self._nodes.items() if heard > earliest}

    # --- what was said lately -------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The time by Redis's clock, estimated, so that all nodes agree; by our own until Redis was reached."""
        return self._clock.now_ms()

    async def read_log(self, rooms: Sequence[str], since_ms: int) -> tuple[dict[str, list[LogEntry]], bool]:
        """What was said with an offset to these rooms since a moment, oldest first, and whether that is all of it.

        It is not when a log was cut beyond the moment, when a node could not write to it, when it is too much, or
        while the bus is away. Raises: RedisError, OSError when Redis does not answer.
        """
        return await self._log.read(rooms, since_ms) if self.connected else ({}, False)

    async def flushed(self) -> None:
        """Returns once Redis has got, or lost, what was published so far."""
        arrived = asyncio.get_running_loop().create_future()
        self._put(f"node:{self.node_id}", BEAT, receivers=arrived)
        await arrived

    # --- which rooms ----------------------------------------------------------------------------------------------

    def join(self, room: str) -> None:
        """Listen to a room's channel from now on."""
        self._listener.join(room)

    def leave(self, room: str) -> None:
        """Listen to it no longer."""
        self._listener.leave(room)

    async def joined(self, rooms: Iterable[str]) -> None:
        """Returns when Redis has confirmed these rooms' channels, at once while it is away, after 1 s at most.

        Whoever gave up waiting is told of a gap when the channel stands after all. A node that knows of no other one
        does not wait: if one turns up before a channel stands, that is a gap as well.
        """
        # With one connection another node is heard of before any channel stands that it may have used meanwhile.
        if self._nodes or self._sharded:
            await self._listener.joined(rooms)

    # --- listening ------------------------------------------------------------------------------------------------

    def _take(self, name: bytes, body: bytes) -> None:
        if self._envelopes.is_own_echo(body):
            self.echoes += 1
            return
        try:
            _, origin, kind, fields = unpack(body)
            self._dispatch(self._shards.room(name), kind, origin, fields)
        except Exception as error:
            log.warning("bus message dropped", reason=type(error).__name__)

    def _dispatch(self, room: str, kind: int, origin: str, fields: list[Any]) -> None:
        if kind == REQUEST:
            self._requests.asked(room, origin, fields)
        elif kind == ANSWER:
            self._requests.answered(origin, fields)
        if origin == self.node_id:
            return
        self.taken += 1
        if origin not in self._nodes:
            self._listener.rooms.doubt_unanswered()
            # It is to know us as well before it can come to miss us, and to read what we have not published for it.
            self._put(EVERY_NODE, BEAT)
            if self._unpublished:
                self._unpublished = False
                self._put(f"node:{origin}", HEAL)
        self._nodes[origin] = asyncio.get_running_loop().time()
        if kind == FRAME:
            offset, skip, unless, seq, payload, droppable = Frame(*fields)
            self.on_frame(room, seq, Packet(payload, droppable=droppable, offset=offset), skip, unless)
        elif kind == HEAL:
            self._gap(list(self._listener.rooms.wanted) if room.startswith("node:") else [room])
        elif kind == BYE:
            del self._nodes[origin]

    # --- publishing -----------------------------------------------------------------------------------------------

    def publish(
        self, room: str, seq: int | None, packet: Packet, *, skip: str | None = None, unless: str | None = None
    ) -> None:
        """Send a packet to the other nodes' members of a room, but the session `skip` and those in the room `unless`.

        With a `seq` it passes their gate; with an offset it goes into the room's log, too. A node that knows of no
        other one publishes nothing: one that comes is told to read what it has missed as soon as it is known.
        """
        mode = (0 if self._is_alone() else PUBLISH) + (0 if packet.offset is None else LOG)
        if mode:
            self._outbox.put_frame(room, pack_frame(packet, seq, skip, unless), mode)

    def _put(self, room: str, kind: int, *fields: Any, receivers: asyncio.Future[int] | None = None) -> None:
        self._outbox.put(room, self._envelopes.pack(kind, *fields), receivers)

    def _is_alone(self) -> bool:
        """Whether nobody is there to be told; then a node that comes is told to read what it has missed."""
        if not self.connected or self._nodes:
            return False
        self._unpublished = True
        return True

    async def tell(self, rooms: list[str], change: list[Any]) -> bool:
        """As `request`, but a node that knows of no other one tells nobody, as with `publish`."""
        return self._is_alone() or await self.request(rooms, change)

    async def request(self, rooms: list[str], change: list[Any]) -> bool:
        """Apply a change on every node that listens to any of these rooms, behind what was published before.

        Returns whether all nodes that got it have answered within 1 s; False at once while Redis is away.
        """
        return (await self._requests.ask(rooms, change))[1]

    async def ask(self, room: str, question: str, *fields: Any) -> tuple[list[Any], bool]:
        """Ask every other node that listens to this room; whoever asks answers for itself.

        Returns the answers, and whether they are all: not while Redis is away, or when a node took more than 1 s.
        """
        answers, complete = await self._requests.ask([room], [question, *fields])
        return [answer for (origin, _), answer in answers.items() if origin != self.node_id], complete
