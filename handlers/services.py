"""What the use cases work with: one frozen bundle, made in the composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from handlers.delivery import Delivery
from handlers.fanout import Fanout
from storage.members import MemberStore
from storage.messages import MessageLog
from storage.rooms import RoomStore
from storage.users import UserStore


@dataclass(frozen=True, slots=True)
class Services:
    """The stores, and the ways to connected devices. `clock` gives UTC in whole milliseconds."""

    clock: Callable[[], datetime]
    rooms: RoomStore
    members: MemberStore
    users: UserStore
    log: MessageLog
    fanout: Fanout
    delivery: Delivery
