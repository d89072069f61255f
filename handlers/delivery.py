"""Live messages to local members, through each room's gate: ascending, each once, gaps filled from the store.

A room's gate stands while the room has a local member. It opens at the room's tail, read after the bus has confirmed
the room's channel, so that what comes later passes and nothing falls between. Whatever the bus loses shows as a gap
in the seqs, or as a tail beyond the gate, and is read from MongoDB.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, NamedTuple

import structlog

from protocol.events import MessageReceived, ServerEvent
from protocol.resources import Message
from realtime.cluster import Cluster
from realtime.frames import Packet
from realtime.gate import Gate
from realtime.manager import Manager, event_packet
from storage.messages import MessageLog

GAP_SECONDS: Final = 0.25
"""How long a later message waits for an earlier one before the store is asked."""
RETRY_SECONDS: Final = 0.5
HEAL_PAGE: Final = 500
HEAL_ROOMS: Final = 1_000

log = structlog.get_logger()


class Delivered(NamedTuple):
    """A packet of a message, or about one, and the session that is not sent it; the message, if it is at hand."""

    packet: Packet
    skip: str | None = None
    message: Message | None = None


class Delivery:
    """The gates of this node's rooms. Room names of the realtime layer are `room:` and a room id.

    Each of `on_delivered` gets a room and an item that has passed its gate, each of `on_doubt` a room when something
    said to it may have passed this node by. All are synchronous and must not raise.
    """

    def __init__(self, manager: Manager, cluster: Cluster, messages: MessageLog) -> None:
        self._manager = manager
        self._cluster = cluster
        self._messages = messages
        self.on_delivered: list[Callable[[str, Delivered], None]] = []
        self.on_doubt: list[Callable[[str], None]] = []
        self._doubted: set[str] = set()
        self._gates: dict[str, Gate[Delivered]] = {}
        self._healing: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- gates ----------------------------------------------------------------------------------------------------

    def filled(self, room_id: str) -> None:
        """The room has its first local member: hold its messages until it is known where they start."""
        self._gates[room_id] = Gate()

    def emptied(self, room_id: str) -> None:
        """The room's last local member has gone."""
        del self._gates[room_id]
        self._doubted.discard(room_id)
        self._tell_doubt(room_id)

    async def open(self, room_ids: Iterable[str]) -> None:
        """Start the gates of these rooms at their tails. What a caller reads afterwards is not older than its gate."""
        closed = {room_id: gate for room_id in room_ids if (gate := self._gates.get(room_id)) and gate.last is None}
        if not closed:
            return
        await self._cluster.joined([room_name(room_id) for room_id in closed])
        for room_id, tail in (await self._messages.tails(list(closed))).items():
            # Not a gate that another member has opened meanwhile: its channel may not have stood at this tail.
            if self._gates.get(room_id) is closed[room_id]:
                self.start(room_id, tail)

    def start(self, room_id: str, last: int) -> None:
        """Start a gate, if it stands and has not started."""
        gate = self._gates.get(room_id)
        if gate is not None:
            self._deliver(room_id, gate.start(last))
            self._watch(room_id, gate)

    def last(self, room_id: str) -> int | None:
        """The last seq that local members have been sent; None when it is not known here."""
        gate = self._gates.get(room_id)
        return None if gate is None else gate.last

    def certain(self, room_ids: Iterable[str]) -> dict[str, int]:
        """The last seqs of those rooms that are open here and lack nothing, as far as this node can know."""
        if not self._cluster.hears_all:
            return {}
        gates = {room_id: gate for room_id in room_ids if (gate := self._gates.get(room_id)) is not None}
        return {
            room_id: gate.last
            for room_id, gate in gates.items()
            if gate.last is not None and not gate.has_gap and room_id not in self._doubted
        }

    def doubt(self, room_ids: Iterable[str]) -> None:
        """The bus may have lost something for these rooms; they are not certain until they are healed."""
        for room_id in room_ids:
            if room_id in self._gates:
                self._doubted.add(room_id)
                self._tell_doubt(room_id)

    # --- messages -------------------------------------------------------------------------------------------------

    def publish(self, message: Message, message_json: bytes, skip: str | None) -> None:
        """Send a stored message to all members on all nodes, but for one session. Never waits."""
        packet = event_packet(MessageReceived.wire_name, message_json)
        self._offer(message.room_id, message.seq, Delivered(packet, skip, message))
        self._cluster.publish(room_name(message.room_id), message.seq, packet, skip=skip)

    def publish_change(self, room_id: str, seq: int, event: ServerEvent) -> None:
        """Tell all members on all nodes of a change to a stored message, behind the message itself. Never waits."""
        packet = self.tell_change(room_id, seq, event)
        # A negative number: about that message, and none itself.
        self._cluster.publish(room_name(room_id), -seq, packet)

    def tell_change(self, room_id: str, seq: int, event: ServerEvent) -> Packet:
        """Tell the members on this node alone."""
        packet = event_packet(event.wire_name, event.wire_json())
        self._offer_behind(room_id, seq, packet)
        return packet

    def arrived(self, room_id: str, seq: int, packet: Packet, skip: str | None) -> None:
        """Take a message that another node has published, or a change of one."""
        if seq < 0:
            self._offer_behind(room_id, -seq, packet)
        else:
            self._offer(room_id, seq, Delivered(packet, skip))

    def _offer_behind(self, room_id: str, seq: int, packet: Packet) -> None:
        gate = self._gates.get(room_id)
        if gate is not None:
            self._deliver(room_id, gate.offer_behind(seq, Delivered(packet)))
            self._watch(room_id, gate)

    def _offer(self, room_id: str, seq: int, item: Delivered) -> None:
        gate = self._gates.get(room_id)
        if gate is None:
            return
        self._deliver(room_id, gate.offer(seq, item))
        self._watch(room_id, gate)

    def _watch(self, room_id: str, gate: Gate[Delivered]) -> None:
        """Have a gap filled, if there is one and nobody is at it."""
        if gate.has_gap and room_id not in self._healing:
            self._healing.add(room_id)
            self._own(self._fill_gap(room_id))

    def _deliver(self, room_id: str, items: Sequence[Delivered]) -> None:
        for item in items:
            self._manager.broadcast(room_name(room_id), item.packet, item.skip)
            for tell in self.on_delivered:
                tell(room_id, item)

    # --- healing --------------------------------------------------------------------------------------------------

    async def _fill_gap(self, room_id: str) -> None:
        """Read what does not come, until the gate has no gap, or does not stand any more."""
        try:
            await asyncio.sleep(GAP_SECONDS)
            while (gate := self._gates.get(room_id)) is not None and gate.has_gap:
                pause = GAP_SECONDS
                try:
                    await self.catch_up(room_id, gate.highest)
                except Exception as error:
                    log.warning("gap not filled yet", reason=type(error).__name__)
                    pause = RETRY_SECONDS
                await asyncio.sleep(pause)
        finally:
            self._healing.discard(room_id)

    async def catch_up(self, room_id: str, last: int) -> None:
        """Bring a gate everything up to this seq, page by page. Raises: the store's errors."""
        while (gate := self._gates.get(room_id)) is not None and gate.last is not None and gate.last < last:
            messages = await self._messages.between(room_id, gate.last, last + 1, HEAL_PAGE)
            if not messages or self._gates.get(room_id) is not gate:
                return
            for message in messages:
                packet = event_packet(MessageReceived.wire_name, message.wire_json())
                skip = self._messages.sending_session(message)
                self._deliver(room_id, gate.offer(message.seq, Delivered(packet, skip, message)))

    async def heal(self, room_ids: Sequence[str]) -> None:
        """Bring these rooms' gates to their tails, whatever the bus has lost. Raises: the store's errors."""
        for start in range(0, len(room_ids), HEAL_ROOMS):
            await self.open(room_ids[start : start + HEAL_ROOMS])
            standing = [room_id for room_id in room_ids[start : start + HEAL_ROOMS] if self.last(room_id) is not None]
            for room_id, tail in (await self._messages.tails(standing)).items():
                await self.catch_up(room_id, tail)
            for room_id in room_ids[start : start + HEAL_ROOMS]:
                self._doubted.discard(room_id)
                self._tell_doubt(room_id)

    def _tell_doubt(self, room_id: str) -> None:
        for tell in self.on_doubt:
            tell(room_id)

    def room_ids(self) -> list[str]:
        """The rooms that have a local member."""
        return list(self._gates)

    # --- tasks ----------------------------------------------------------------------------------------------------

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop filling gaps."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def room_name(room_id: str) -> str:
    """The realtime layer's name of a chat room."""
    return f"room:{room_id}"


def user_name(user_id: str) -> str:
    """The realtime layer's name of a user's devices."""
    return f"user:{user_id}"
