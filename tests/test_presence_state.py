"""The pure parts of typing and presence: whatever order things come in, everybody ends up knowing what is."""

import asyncio
from collections.abc import Iterable

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from presence.deadlines import Alarm, Deadlines
from presence.devices import GRACE_SECONDS, LINGERING_MAX, Devices
from presence.nodes import LIFE_SECONDS, Nodes
from presence.state import OFFLINE, Presence, Report, diff, merge, present, update
from presence.typists import EXPIRY_SECONDS, SWALLOW_SECONDS, Typists
from protocol.types import PresenceStatus
from tests.clients.user import eventually

NODES = ("n1", "n2", "n3")
USER = "alice"
LIFE_MS = int(LIFE_SECONDS * 1000)
statuses = st.sampled_from(list(PresenceStatus))
sessions = st.integers(0, 5).map(lambda number: f"s{number}")


def expected(all_statuses: Iterable[PresenceStatus]) -> str:
    """The contract's sentence: invisible or busy on any wins, else any online, else away."""
    found = set(all_statuses)
    if not found or PresenceStatus.INVISIBLE in found:
        return "offline"
    if PresenceStatus.BUSY in found:
        return "busy"
    return "online" if PresenceStatus.ONLINE in found else "away"


@given(st.lists(st.lists(statuses)))
def test_merging_by_nodes_is_merging_all(by_node: list[list[PresenceStatus]]) -> None:
    """How a user's devices are spread over nodes makes no difference."""
    reports = [Report(status, len(mine), 1) for mine in by_node if (status := merge(mine)) is not None]
    everyone = [status for mine in by_node for status in mine]
    found = present(reports, None)
    assert found.status == expected(everyone)
    assert found.devices == (0 if found.status == "offline" else len(everyone))


class Cluster(RuleBasedStateMachine):
    """One user's devices on three nodes, a Redis that keeps reports, a bus that loses, doubles and reorders them.

    A watcher that has read once the bus is quiet knows what is; what it was told, one difference after the other,
    leads there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.version = 0
        self.devices = {node: Devices() for node in NODES}
        self.reports: dict[str, Report] = {}
        self.redis: dict[str, Report] = {}
        self.on_the_way: list[tuple[str, Report]] = []
        self.known: dict[str, Report] = {}
        self.reading: dict[str, Report] | None = None
        self.heard: set[str] = set()
        self.shown = OFFLINE
        self.model: dict[tuple[str, str], tuple[PresenceStatus, float | None]] = {}

    def _report(self, node: str) -> None:
        merged, before = self.devices[node].merged(USER), self.reports.get(node)
        if merged is None and before is None:
            return
        self.version += 1
        if merged is None:
            report = Report(PresenceStatus.ONLINE, 0, self.version)
            self.redis.pop(node, None)
            self.reports.pop(node)
        else:
            report = self.reports[node] = self.redis[node] = Report(*merged, self.version)
        self.on_the_way.append((node, report))

    @rule(node=st.sampled_from(NODES), session=sessions)
    def connect(self, node: str, session: str) -> None:
        """A device comes."""
        if (node, session) not in self.model:
            self.devices[node].connect(session, USER, None)
            self.model[node, session] = (PresenceStatus.ONLINE, None)
            self._report(node)

    @rule(node=st.sampled_from(NODES), session=sessions, status=statuses)
    def set_status(self, node: str, session: str, status: PresenceStatus) -> None:
        """A device that is connected says how it is."""
        known = self.model.get((node, session))
        connected = known is not None and known[1] is None
        assert (self.devices[node].set_status(session, status) == USER) == connected
        if connected:
            self.model[node, session] = (status, None)
            self._report(node)

    @rule(node=st.sampled_from(NODES), session=sessions)
    def disconnect(self, node: str, session: str) -> None:
        """A device goes."""
        known = self.model.get((node, session))
        if known is not None and known[1] is None:
            self.devices[node].disconnect(session, self.now)
            self.model[node, session] = (known[0], self.now + GRACE_SECONDS)
            self._report(node)

    @rule(seconds=st.floats(0.0, 7.0))
    def wait(self, seconds: float) -> None:
        """Time passes: graces end."""
        self.now += seconds
        self.model = {key: (status, due) for key, (status, due) in self.model.items() if due is None or due > self.now}
        for node, devices in self.devices.items():
            if devices.expire(self.now):
                self._report(node)

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """The bus brings any report that is on its way, and may bring it again."""
        if self.on_the_way:
            node, report = data.draw(st.sampled_from(self.on_the_way))
            if data.draw(st.booleans()):
                self.on_the_way.remove((node, report))
            self.hear(node, report)

    def hear(self, node: str, report: Report) -> None:
        """As a watching node does it."""
        known = self.known.get(node)
        if known is None or report.version >= known.version:
            self.known[node] = report
            self.heard.add(node)
        self.tell()

    @rule()
    def lose(self) -> None:
        """The bus loses what is on its way."""
        self.on_the_way.clear()

    @rule()
    def begin_reading(self) -> None:
        """A reading sees Redis as it is, and comes back later."""
        self.reading, self.heard = dict(self.redis), set()

    @rule()
    def end_reading(self) -> None:
        """It comes back, after reports that are newer than it."""
        if self.reading is not None:
            self.known, self.reading = update(self.known, self.reading, self.heard), None
            self.tell()

    def tell(self) -> None:
        """The watcher is told the difference."""
        now = present([*self.known.values()], None)
        change = diff(self.shown, now)
        assert (change is None) == (self.shown.status == now.status)
        if change is not None:
            assert (change == "offline") == (now.status == "offline")
            assert (change == "online") == (self.shown.status == "offline")
        self.shown = now

    @invariant()
    def a_reading_in_peace_knows_all(self) -> None:
        """What Redis holds, read while nothing happens, is what the devices say."""
        found = present([*update({}, self.redis, ()).values()], None)
        assert found.status == expected(status for status, _ in self.model.values())

    def teardown(self) -> None:
        """Nothing happens any more: what is late comes, then one reading makes everything right."""
        self.begin_reading()
        for node, report in self.on_the_way:
            self.hear(node, report)
        self.end_reading()
        assert self.shown.status == expected(status for status, _ in self.model.values())


Cluster.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCluster = Cluster.TestCase


def test_a_device_that_comes_back_takes_its_status_over() -> None:
    """By its device id, while its grace lasts; another device is a new one."""
    devices = Devices()
    devices.connect("s1", USER, "tab")
    devices.set_status("s1", PresenceStatus.INVISIBLE)
    assert devices.disconnect("s1", 0.0) == USER
    assert devices.disconnect("s1", 0.0) is None
    devices.connect("s2", USER, "tab")
    assert devices.merged(USER) == (PresenceStatus.INVISIBLE, 1)
    assert devices.expire(GRACE_SECONDS) == []
    devices.connect("s3", USER, None)
    devices.disconnect("s2", GRACE_SECONDS)
    assert devices.merged(USER) == (PresenceStatus.INVISIBLE, 1)
    assert devices.expire(2 * GRACE_SECONDS) == [USER]
    assert devices.merged(USER) == (PresenceStatus.ONLINE, 1)


def test_gone_devices_are_bounded() -> None:
    """However often somebody comes and goes within a moment, few of their devices are kept."""
    devices = Devices()
    for number in range(10 * LINGERING_MAX):
        devices.connect(f"s{number}", USER, None)
        devices.disconnect(f"s{number}", 0.0)
    assert len(devices.expire(GRACE_SECONDS)) == LINGERING_MAX
    assert devices.users() == []


def test_when_somebody_was_last_seen() -> None:
    """By any node's last word, or when a node died; never while they are here or hide."""
    gone = Report(PresenceStatus.ONLINE, 0, 1, 500)
    assert present([gone], 700) == Presence("offline", 700)
    assert present([gone, Report(PresenceStatus.AWAY, 1, 1)], 700) == Presence("away", None, 1)
    assert present([gone, Report(PresenceStatus.INVISIBLE, 1, 1, 600)], 700) == OFFLINE


def test_nodes_die_by_their_heartbeats_alone() -> None:
    """A dead or vanished node does not count, and its last moment is kept; a new one counts by its word for a while."""
    nodes = Nodes("own")
    assert nodes.shown({"own": LIFE_MS, "other": LIFE_MS}, 0, 0.0)
    assert nodes.lives("other", 0.0)
    assert not nodes.shown({"own": LIFE_MS, "other": LIFE_MS}, LIFE_MS, 15.0)
    assert nodes.shown({"own": 2 * LIFE_MS, "other": LIFE_MS}, LIFE_MS + 1, 15.0)
    assert (nodes.lives("other", 15.0), nodes.last_lived("other")) == (False, 0)
    nodes.heard("new", 15.0)
    assert nodes.lives("new", 24.9)
    assert not nodes.lives("new", 25.1)
    assert nodes.shown({"own": 3 * LIFE_MS, "new": 3 * LIFE_MS}, 2 * LIFE_MS, 30.0)
    assert not nodes.shown({"own": 3 * LIFE_MS}, 2 * LIFE_MS, 30.0), "lost by Redis before its time"
    assert nodes.shown({"own": 4 * LIFE_MS}, 3 * LIFE_MS + 1, 45.0)
    assert nodes.last_lived("new") == 2 * LIFE_MS
    assert nodes.lost()
    assert nodes.lives("own", 30.0)


keys = st.sampled_from("abc")
deadline_steps = st.lists(
    st.tuples(st.sampled_from(["set", "drop", "pop"]), keys, st.integers(0, 50).map(float)), max_size=200
)


@given(deadline_steps)
def test_deadlines_are_a_sorted_dictionary(steps: list[tuple[str, str, float]]) -> None:
    """Each key comes due once, at the time set last, in order."""
    deadlines: Deadlines[str] = Deadlines()
    model: dict[str, float] = {}
    for what, key, at in steps:
        if what == "set":
            deadlines.set(key, at)
            model[key] = at
        elif what == "drop":
            deadlines.drop(key)
            model.pop(key, None)
        else:
            popped = deadlines.pop(at)
            assert sorted(popped) == sorted(key for key, due in model.items() if due <= at)
            assert [model[key] for key in popped] == sorted(model.pop(key) for key in list(popped))
        assert deadlines.next() == min(model.values(), default=None)


typing_steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "stop", "end", "gone"]),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(["s1", "s2"]),
        st.floats(0.0, 4.0),
    ),
    max_size=60,
)


@given(typing_steps)
def test_every_start_is_stopped_once(steps: list[tuple[str, str, str, float]]) -> None:
    """A room hears start and stop in turn, starts again no sooner than 2 s, and a stop 6 s after the last word."""
    typists, now = Typists(), 0.0
    announced: dict[str, float] = {}
    said: dict[str, float] = {}

    def stopped(rooms: list[tuple[str, str]]) -> None:
        for room, _ in rooms:
            del announced[room]
            del said[room]

    for what, room, session, seconds in steps:
        now += seconds
        expired = typists.expire(now)
        assert sorted(room for room, _ in expired) == sorted(r for r, at in said.items() if now >= at + EXPIRY_SECONDS)
        stopped(expired)
        typist = (room, USER)
        if what == "start":
            said[room] = now
            if not typists.renew(typist, session, now):
                assert now - announced.get(room, -SWALLOW_SECONDS) >= SWALLOW_SECONDS
                assert typists.start(typist, session, now)
                announced[room] = now
        elif what == "stop":
            stopped(typists.stop(typist, session))
        elif what == "end":
            stopped(typists.end(typist))
        else:
            stopped(typists.gone(session))
        assert {room for room in ("r1", "r2") if (room, USER) in typists} == set(announced)
    stopped(typists.gone("s1") + typists.gone("s2"))
    assert announced == {}


def test_an_alarm_set_for_the_past_can_be_set_again() -> None:
    """On the server's loop, too: a time that is past rings next, whatever is asked for in between."""

    async def ring_once() -> int:
        rings: list[None] = []
        alarm = Alarm(lambda: rings.append(None))
        now = asyncio.get_running_loop().time()
        for due in (now - 1, now + 60, now - 2):
            alarm.set(due)
        await eventually(lambda: bool(rings))
        alarm.stop()
        return len(rings)

    assert uvloop.run(ring_once()) == 1
