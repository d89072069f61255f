"""What one client, and all of them together, may cost this server."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a server, per connection unless said otherwise; what exceeds one is refused, dropped or cut.

    buffered_bytes, buffered_seconds: what a client may leave unread, and for how long, before it is cut; from half of
    the bytes on, droppable packets are left out. events_under_way: beyond it nothing more is read from the client.
    connect_seconds: for the first CONNECT. handshakes_per_second: of all clients, None for any number.
    """

    payload_bytes: int = 1_000_000
    buffered_bytes: int = 1_048_576
    buffered_seconds: float = 10.0
    events_under_way: int = 256
    rooms: int = 10_000
    namespaces: int = 10
    attachments: int = 10
    packets_per_post: int = 1_000
    json_depth: int = 32
    connect_seconds: float = 10.0
    handshakes_per_second: int | None = None


DEFAULT_LIMITS: Final = Limits()
