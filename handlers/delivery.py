"""Live messages to local members, through each room's gate: ascending, each once, gaps filled from the store.

A room's gate stands while the room has a local member. It opens at the room's tail, read after the bus has confirmed
the room's channel, so that what comes later passes and nothing falls between. Whatever the bus loses shows as a gap
in the seqs, or as a tail beyond the gate, and is read from MongoDB.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

import structlog

from protocol.events import MessageReceived
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

Delivered = tuple[Packet, str | None]
"""A message's packet, and the session that is not sent it."""


class Delivery:
    """The gates of this node's rooms. Room names of the realtime layer are `room:` and a room id."""

    def __init__(self, manager: Manager, cluster: Cluster, messages: MessageLog) -> None:
        self._manager = manager
        self._cluster = cluster
        self._messages = messages
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

    async def open(self, room_ids: Iterable[str]) -> None:
        """Start the gates of these rooms at their tails. What a caller reads afterwards is not older than its gate."""
        closed = [room_id for room_id in room_ids if (gate := self._gates.get(room_id)) and gate.last is None]
        if not closed:
            return
        await self._cluster.joined([room_name(room_id) for room_id in closed])
        for room_id, tail in (await self._messages.tails(closed)).items():
            self.start(room_id, tail)

    def start(self, room_id: str, last: int) -> None:
        """Start a gate, if it stands and has not started."""
        gate = self._gates.get(room_id)
        if gate is not None:
            self._deliver(room_id, gate.start(last))

    def last(self, room_id: str) -> int | None:
        """The last seq that local members have been sent; None when it is not known here."""
        gate = self._gates.get(room_id)
        return None if gate is None else gate.last

    # --- messages -------------------------------------------------------------------------------------------------

    def publish(self, message: Message, message_json: bytes, skip: str | None) -> None:
        """Send a stored message to all members on all nodes, but for one session. Never waits."""
        packet = event_packet(MessageReceived.wire_name, message_json)
        self._offer(message.room_id, message.seq, (packet, skip))
        self._cluster.publish(room_name(message.room_id), message.seq, packet.payload)

    def arrived(self, room_id: str, seq: int, payload: bytes) -> None:
        """Take a message that another node has published."""
        self._offer(room_id, seq, (Packet(payload), None))

    def _offer(self, room_id: str, seq: int, item: Delivered) -> None:
        gate = self._gates.get(room_id)
        if gate is None:
            return
        self._deliver(room_id, gate.offer(seq, item))
        if gate.has_gap and room_id not in self._healing:
            self._healing.add(room_id)
            self._own(self._fill_gap(room_id))

    def _deliver(self, room_id: str, items: Sequence[Delivered]) -> None:
        for packet, skip in items:
            self._manager.broadcast(room_name(room_id), packet, skip)

    # --- healing --------------------------------------------------------------------------------------------------

    async def _fill_gap(self, room_id: str) -> None:
        """Read what does not come, until the gate has no gap, or does not stand any more."""
        try:
            await asyncio.sleep(GAP_SECONDS)
            while (gate := self._gates.get(room_id)) is not None and gate.has_gap:
                try:
                    await self._read_up_to(room_id, gate.highest)
                except Exception as error:
                    log.warning("gap not filled yet", reason=type(error).__name__)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._healing.discard(room_id)

    async def _read_up_to(self, room_id: str, last: int) -> None:
        """Bring a gate everything up to this seq, page by page. Raises: the store's errors."""
        while (gate := self._gates.get(room_id)) is not None and gate.last is not None and gate.last < last:
            messages = await self._messages.between(room_id, gate.last, last + 1, HEAL_PAGE)
            if not messages:
                return
            for message in messages:
                packet = event_packet(MessageReceived.wire_name, message.wire_json())
                skip = self._messages.sending_session(message)
                self._deliver(room_id, gate.offer(message.seq, (packet, skip)))

    async def heal(self, room_ids: Sequence[str]) -> None:
        """Bring these rooms' gates to their tails, whatever the bus has lost. Raises: the store's errors."""
        for start in range(0, len(room_ids), HEAL_ROOMS):
            await self.open(room_ids[start : start + HEAL_ROOMS])
            standing = [room_id for room_id in room_ids[start : start + HEAL_ROOMS] if self.last(room_id) is not None]
            for room_id, tail in (await self._messages.tails(standing)).items():
                await self._read_up_to(room_id, tail)

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
