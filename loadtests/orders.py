"""What a run and its workers speak of: a worker's share, the phases, and the answers that are more than done."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from loadtests.member import Seat


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker has to do; `rate` in messages/s over its senders, 0 for as fast as acks come."""

    seats: list[Seat]
    ramp: int
    window: int
    rate: float
    text: str


class Phase(StrEnum):
    """Where a worker stands; every progress report names the phase that it counts for."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    SENDING = "sending"
    STORM = "storm"
    SLOW = "slow"
    RESUMED = "resumed"
    LEAVING = "leaving"
    DRAINING = "draining"


class Drained(NamedTuple):
    """The answer to `drain`: seconds spent in each phase so far, and the highest acknowledged seq of each room."""

    seconds: dict[str, float]
    last_seqs: dict[str, int]


class Comeback(NamedTuple):
    """The answer to `drop`: how many were dropped, seconds until the last of them was served again."""

    dropped: int
    seconds: float
