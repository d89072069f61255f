"""What was sent, acknowledged, received and stored, and the verdict over it. Pure: no socket, no clock.

The promises checked are those of the wire contract, section 4 ("What an ack of message:send promises").
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from loadtests.seqset import SeqSet

EXAMPLES_MAX = 5
"""Examples kept of each kind of breach: enough to start looking, no flood."""


class Ack(NamedTuple):
    """One successful ack of `message:send`."""

    seq: int
    client_id: str
    duplicate: bool


class Stored(NamedTuple):
    """One message of a room's history."""

    seq: int
    client_id: str | None


class Inbox:
    """What one user received of its room, over all its connections of the run.

    `floor` is the room's last seq when the user joined: everything above it is due. Order and uniqueness hold per
    connection, for live messages; what was fetched by sync, or is one's own, counts as received and no more.
    """

    __slots__ = ("connected", "duplicated", "floor", "highest_live", "inverted", "live", "name", "received", "room_id")

    def __init__(self, name: str, room_id: str) -> None:
        self.name = name
        self.room_id = room_id
        self.floor: int | None = None
        self.connected = False
        self.live = SeqSet()
        self.highest_live = 0
        self.received = SeqSet()
        self.duplicated: list[int] = []
        self.inverted: list[int] = []

    def open_connection(self) -> None:
        """A new connection begins: order is counted afresh, what was received stays received."""
        self.received = self.received.union(self.live)
        self.live = SeqSet()
        self.highest_live = 0

    def add_live(self, seq: int) -> None:
        """A message arrived by itself."""
        if seq > self.highest_live:
            self.highest_live = seq
            self.live.add(seq)
        elif self.live.add(seq):
            self.inverted.append(seq)
        else:
            self.duplicated.append(seq)

    def add_fetched(self, seq: int) -> None:
        """A message was fetched by sync, or was sent and acknowledged here."""
        self.received.add(seq)

    def everything(self) -> SeqSet:
        """All seqs that this user has."""
        return self.received.union(self.live)

    def seen(self) -> int:
        """The seq up to which nothing is missing, the one to sync from."""
        return self.everything().reach(self.floor or 0)


@dataclass(slots=True)
class Ledger:
    """The books of one process; `merge` joins those of several."""

    inboxes: list[Inbox] = field(default_factory=list)
    acks: dict[str, list[Ack]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """clientIds answered with an error that means that nothing was stored."""
    unacknowledged: int = 0
    """Messages whose fate was still unknown when the wait for acks ended."""

    def add_ack(self, room_id: str, ack: Ack) -> None:
        """Enter a successful ack."""
        self.acks.setdefault(room_id, []).append(ack)

    def last_seqs(self) -> dict[str, int]:
        """The highest acknowledged seq of each room."""
        return {room_id: max(ack.seq for ack in acks) for room_id, acks in self.acks.items()}

    def merge(self, other: "Ledger") -> None:
        """Take over the entries of another process."""
        self.inboxes += other.inboxes
        for room_id, acks in other.acks.items():
            self.acks.setdefault(room_id, []).extend(acks)
        self.refused |= other.refused
        self.unacknowledged += other.unacknowledged


class Breach(StrEnum):
    """The kinds of fault that make a verdict unclean, each with what it means."""

    LOST = "lost: acknowledged, not received by a connected member"
    NOT_STORED = "lost: acknowledged, not in the room's history under its seq"
    DUPLICATE_DELIVERY = "duplicated: one seq came twice on one connection"
    DUPLICATE_ACK = "duplicated: two acks without duplicate: true share a seq, or one clientId got two seqs"
    DUPLICATE_STORED = "duplicated: one clientId or seq is in the history twice"
    OUT_OF_ORDER = "out of order: a lower seq came after a higher one on one connection"
    HOLE = "hole: a seq is missing between 1 and the room's last"
    REFUSED_STORED = "refused, yet stored"
    UNREAD_ROOM = "unchecked: the room's history could not be read"
    ABSENT = "unchecked: the user was not connected at the end"
    UNANSWERED = "unanswered: sent again and again, neither acknowledged nor refused"
    UNSETTLED = "unsettled: the server went on counting connections that were gone"
    SILENCE = "unchecked: no message was acknowledged"


class Verdict:
    """Breaches by kind, with some examples of each; clean when there are none."""

    def __init__(self) -> None:
        self.breaches: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    @property
    def clean(self) -> bool:
        """Whether every promise was kept, and every member and room could be checked."""
        return not self.breaches

    def add(self, kind: str, examples: Iterable[str], count: int) -> None:
        """Enter `count` breaches of one kind; `examples` is read only as far as it is kept."""
        if not count:
            return
        self.breaches[kind] += count
        kept = self.examples.setdefault(kind, [])
        for example in examples:
            if len(kept) >= EXAMPLES_MAX:
                break
            kept.append(example)


def judge(ledger: Ledger, histories: Mapping[str, Sequence[Stored] | None], *, expect_acks: bool = True) -> Verdict:
    """Compare the books with what the server has stored.

    `histories` has every room of the run, all of them made by it, so that their seqs begin at 1; None stands for a
    history that could not be read.
    """
    verdict = Verdict()
    if expect_acks and not ledger.acks:
        verdict.add(Breach.SILENCE, [], 1)
    verdict.add(Breach.UNANSWERED, [], ledger.unacknowledged)
    for room_id, stored in histories.items():
        acks = ledger.acks.get(room_id, [])
        _judge_acks(verdict, room_id, acks)
        if stored is None:
            verdict.add(Breach.UNREAD_ROOM, [room_id], 1)
        else:
            _judge_history(verdict, room_id, acks, stored, ledger.refused)
    acked = {room_id: SeqSet(sorted(ack.seq for ack in acks)) for room_id, acks in ledger.acks.items()}
    for inbox in ledger.inboxes:
        _judge_inbox(verdict, inbox, acked.get(inbox.room_id, SeqSet()))
    return verdict


def _judge_acks(verdict: Verdict, room_id: str, acks: Sequence[Ack]) -> None:
    firsts = Counter(ack.seq for ack in acks if not ack.duplicate)
    shared = [seq for seq, count in firsts.items() if count > 1]
    seqs_of: dict[str, int] = {}
    split = [ack.seq for ack in acks if seqs_of.setdefault(ack.client_id, ack.seq) != ack.seq]
    wrong = shared + split
    verdict.add(Breach.DUPLICATE_ACK, (f"{room_id} seq {seq}" for seq in wrong), len(wrong))


def _judge_history(
    verdict: Verdict, room_id: str, acks: Sequence[Ack], stored: Sequence[Stored], refused: set[str]
) -> None:
    client_ids = {message.seq: message.client_id for message in stored}
    missing = sorted({ack.seq for ack in acks if client_ids.get(ack.seq, "") != ack.client_id})
    verdict.add(Breach.NOT_STORED, (f"{room_id} seq {seq}" for seq in missing), len(missing))
    seq_counts = Counter(message.seq for message in stored)
    id_counts = Counter(message.client_id for message in stored if message.client_id is not None)
    twice = [str(key) for counts in (seq_counts, id_counts) for key, count in counts.items() if count > 1]
    verdict.add(Breach.DUPLICATE_STORED, (f"{room_id}: {key}" for key in twice), len(twice))
    last = max([*client_ids, *(ack.seq for ack in acks)], default=0)
    holes = SeqSet(range(1, last + 1)).difference(SeqSet(sorted(client_ids)))
    verdict.add(Breach.HOLE, (f"{room_id} seq {seq}" for seq in holes), len(holes))
    ghosts = [message.client_id for message in stored if message.client_id in refused]
    verdict.add(Breach.REFUSED_STORED, (f"{room_id}: {client_id}" for client_id in ghosts), len(ghosts))


def _judge_inbox(verdict: Verdict, inbox: Inbox, acked: SeqSet) -> None:
    where = f"{inbox.name} in {inbox.room_id}"
    for kind, seqs in ((Breach.DUPLICATE_DELIVERY, inbox.duplicated), (Breach.OUT_OF_ORDER, inbox.inverted)):
        verdict.add(kind, (f"{where} seq {seq}" for seq in seqs), len(seqs))
    if not inbox.connected or inbox.floor is None:
        verdict.add(Breach.ABSENT, [where], 1)
        return
    lost = acked.above(inbox.floor).difference(inbox.everything())
    verdict.add(Breach.LOST, (f"{where} seq {seq}" for seq in lost), len(lost))
