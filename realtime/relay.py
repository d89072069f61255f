"""A server of one's own on several nodes: what it emits to a room reaches the room's members on all of them.

And their sessions are recovered: who comes back is in its rooms again, has its session data (`save_session`), and gets
what was emitted meanwhile to its rooms, to it alone, or to everybody. What has attachments, a callback or several rooms
stays on this node and is not replayed.

`create_server(redis_url=…)` makes one.
"""

import secrets
from collections.abc import Callable, Collection
from typing import Any, Final

from realtime.cluster import Cluster
from realtime.doubt import Doubt
from realtime.frames import Packet
from realtime.manager import Session
from realtime.offsets import Stamps
from realtime.recovery import NotRecoverable, Recovery, Returning
from realtime.redis_source import RedisSource
from realtime.server import Server

EVERYBODY: Final = "*"
"""The room of all sessions."""


class Relay:
    """The bus and the recovery of a server whose namespace `/` has handlers of python-socketio's kind."""

    def __init__(
        self,
        server: Server,
        source: RedisSource,
        prefix: str,
        on_outcome: Callable[[str], None] = lambda outcome: None,
        *,
        recovers: bool = True,
    ) -> None:
        self._recovers = recovers
        self._manager = server.manager
        self._cluster = Cluster(source, prefix, secrets.token_hex(6))
        self._doubt = Doubt(server.manager, self._cluster)
        self._stamps = Stamps(self._cluster.node_id, self._doubt.stamp_ms)
        self._recovery = Recovery(
            server.manager,
            self._cluster,
            source,
            prefix,
            ping_seconds=(server.eio.ping_interval_ms + server.eio.ping_timeout_ms) / 1000,
            stores_rooms=True,
            ended=server.ended,
            on_outcome=on_outcome,
        )
        server.recovery = self._recovery
        server.admit = self._admit
        self._manager.relay = self._emit
        self._manager.on_filled = self._cluster.join
        self._manager.on_emptied = self._cluster.leave
        self._manager.on_changed = self._recovery.changed
        self._cluster.on_frame = self._arrived
        self._cluster.on_gap = self._missed

    async def start(self) -> None:
        """Connect in the background."""
        await self._cluster.start()
        self._recovery.start()

    async def close(self) -> None:
        """Say what is pending, then close."""
        await self._recovery.close()
        await self._cluster.stop()

    def _emit(self, room: str | None, payload: bytes, skip: Collection[str | None]) -> None:
        packet = Packet(payload, offset=self._stamps.make())
        skipped = next(iter(skip), None)
        self._manager.broadcast(room or EVERYBODY, packet, skipped)
        self._cluster.publish(room or EVERYBODY, None, packet, skip=skipped)

    def _arrived(self, room: str, seq: int | None, packet: Packet, skip: str | None, unless: str | None) -> None:
        self._doubt.arrived(packet.offset)
        self._manager.broadcast(room, packet, skip)

    def _missed(self, rooms: list[str]) -> None:
        if any(not room.startswith("node:") for room in rooms):
            self._doubt.begin()

    # --- sessions -------------------------------------------------------------------------------------------------

    async def _admit(self, session: Session, auth: Any) -> Returning | None:
        """Before its connect handler is called: let a session into its rooms, the former ones if it comes back."""
        returning = await self._recovery.claim(session, auth, "") if self._recovers else None
        former = returning.state.rooms or [] if returning is not None else []
        await self._enter(session, [EVERYBODY, session.sid, *former])
        if returning is not None:
            session.data = returning.state.data
            try:
                replay = await self._recovery.read(returning, list(session.rooms), {})
                self._recovery.settle(returning, replay.missed)
            except NotRecoverable as error:
                for room in list(session.rooms):
                    self._manager.leave(session, room)
                self._recovery.start_anew(returning, error)
                session.data = None
                await self._enter(session, [EVERYBODY, session.sid])
        return returning

    async def _enter(self, session: Session, rooms: list[str]) -> None:
        for room in rooms:
            self._manager.enter(session, room)
        await self._cluster.joined(rooms)
