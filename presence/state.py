"""What a user looks like from outside, out of what each node reports of them. Pure: no clock, no I/O.

Every node merges the devices that it holds itself into one report; whoever looks merges the reports of all nodes that
live. The order of precedence makes the two steps give what one would: the first of invisible, busy, online, away that
any device is in. Times are milliseconds since the epoch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from protocol.types import PresenceStatus, SeenStatus

PRECEDENCE = (PresenceStatus.INVISIBLE, PresenceStatus.BUSY, PresenceStatus.ONLINE, PresenceStatus.AWAY)

Change = Literal["online", "status", "offline"]


class Report(NamedTuple):
    """One node's word on one user: its devices merged. Without devices they have left it, visibly at `seen` if ever.

    A later report of the same node has a higher version.
    """

    status: PresenceStatus
    devices: int
    version: int
    seen: int | None = None


_VISIBLE: dict[PresenceStatus, SeenStatus] = {
    PresenceStatus.ONLINE: "online",
    PresenceStatus.AWAY: "away",
    PresenceStatus.BUSY: "busy",
    PresenceStatus.INVISIBLE: "offline",
}


class Presence(NamedTuple):
    """What others may know. Who is here has no `last_seen`; who hides has none either, and no devices."""

    status: SeenStatus
    last_seen: int | None = None
    devices: int = 0


OFFLINE = Presence("offline")


def merge(statuses: Iterable[PresenceStatus]) -> PresenceStatus | None:
    """The status of somebody with these devices; None without any."""
    return min(statuses, key=PRECEDENCE.index, default=None)


def latest(moments: Iterable[int | None]) -> int | None:
    """The last of the moments that are known."""
    return max((moment for moment in moments if moment is not None), default=None)


def present(reports: Sequence[Report], left: int | None) -> Presence:
    """What living nodes' reports amount to; `left` is when the user was last seen on nodes that are no more."""
    here = [report for report in reports if report.devices]
    status = here[0].status if len(here) == 1 else merge([report.status for report in here])
    if status is None:
        return Presence("offline", latest([left, *(report.seen for report in reports)]))
    if status is PresenceStatus.INVISIBLE:
        return OFFLINE
    return Presence(_VISIBLE[status], None, sum([report.devices for report in here]))


def diff(before: Presence, after: Presence) -> Change | None:
    """How a watcher who knows `before` comes to know `after`; None when nothing that they are told of has changed."""
    if before.status == after.status:
        return None
    if after.status == "offline":
        return "offline"
    return "online" if before.status == "offline" else "status"


def update(known: Mapping[str, Report], read: Mapping[str, Report], heard_since: Iterable[str]) -> dict[str, Report]:
    """Reports by node after a reading: what the reading has, but nothing older than what is known.

    A node that the reading lacks has nobody there any more, unless it was heard since the reading began.
    """
    merged = {node: known[node] for node in heard_since if node in known}
    for node, report in read.items():
        kept = known.get(node)
        merged[node] = kept if kept is not None and kept.version > report.version else report
    return merged
