"""Counts of a run in progress: what the live line and the final table are made of."""

from collections import Counter

from loadtests.latency import Histogram


class Tally:
    """What happened since the last `take`; tallies of several processes and moments add up."""

    __slots__ = (
        "ack",
        "acked",
        "back",
        "connected",
        "delivered",
        "delivery",
        "errors",
        "joined",
        "reconnects",
        "recovered",
        "sent",
        "skipped",
    )

    def __init__(self) -> None:
        self.joined = 0
        """First connections, counted when the user is in its room."""
        self.connected = 0
        """Change in open connections."""
        self.reconnects = 0
        """Later connections; `recovered` counts those of them that went on with the old session."""
        self.recovered = 0
        self.sent = 0
        """Messages, each counted once however often it was sent again."""
        self.skipped = 0
        """Messages that were due by --rate, but found their sender too far behind."""
        self.acked = 0
        self.delivered = 0
        self.errors: Counter[str] = Counter()
        self.ack = Histogram()
        self.delivery = Histogram()
        self.back = Histogram()
        """From the first try to come back after a drop until the user is served again."""

    def take(self) -> "Tally":
        """The counts so far, as a tally of their own; this one starts from nothing again."""
        taken, empty = Tally(), Tally()
        for name in self.__slots__:
            setattr(taken, name, getattr(self, name))
            setattr(self, name, getattr(empty, name))
        return taken

    def add(self, other: "Tally") -> None:
        """Put another tally on top."""
        self.joined += other.joined
        self.connected += other.connected
        self.reconnects += other.reconnects
        self.recovered += other.recovered
        self.sent += other.sent
        self.skipped += other.skipped
        self.acked += other.acked
        self.delivered += other.delivered
        self.errors += other.errors
        self.ack.add(other.ack)
        self.delivery.add(other.delivery)
        self.back.add(other.back)
