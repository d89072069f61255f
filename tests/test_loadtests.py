"""The load driver's pure parts: its verdict must catch every fault, and no other."""

import asyncio
import json
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.__main__ import main
from loadtests.bench import Row, render
from loadtests.chat import Outcome, Plan, deal, user_ids
from loadtests.latency import Histogram
from loadtests.ledger import Ack, Breach, Inbox, Ledger, Stored, Verdict, judge
from loadtests.options import parser, plan_of
from loadtests.report import figures, table
from loadtests.seqset import SeqSet
from loadtests.tokens import NoTokens, find_secret, read_tokens, sign_tokens
from loadtests.websocket_client import WebSocket

ROOT = Path(__file__).resolve().parent.parent
UNHURRIED = settings(deadline=None)
"""How long an example takes says nothing on a shared machine."""
SEQS = st.lists(st.integers(1, 60), max_size=80)


# --- sets of seqs -----------------------------------------------------------------------------------------------------


@UNHURRIED
@given(SEQS, SEQS, st.integers(0, 60))
def test_seqset_is_a_set(left: list[int], right: list[int], floor: int) -> None:
    """Whatever the order of adding, a SeqSet answers like a set of the same numbers."""
    ours, theirs = SeqSet(), set()
    for seq in left:
        assert ours.add(seq) is (seq not in theirs)
        theirs.add(seq)
    other = SeqSet(right)
    assert list(ours) == sorted(theirs)
    assert len(ours) == len(theirs)
    assert [seq for seq in range(62) if seq in ours] == sorted(theirs)
    assert list(ours.union(other)) == sorted(theirs | set(right))
    assert list(ours.difference(other)) == sorted(theirs - set(right))
    assert list(ours.above(floor)) == sorted(seq for seq in theirs if seq > floor)
    reach = floor
    while reach + 1 in theirs:
        reach += 1
    assert ours.reach(floor) == reach


@UNHURRIED
@given(SEQS)
def test_seqset_keeps_separate_spans(seqs: list[int]) -> None:
    """Spans never touch: that is what keeps a million contiguous seqs as small as one."""
    spans = list(SeqSet(seqs).spans())
    assert all(first <= last for first, last in spans)
    assert all(spans[i][1] + 1 < spans[i + 1][0] for i in range(len(spans) - 1))


# --- latencies --------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_percentiles_are_within_one_percent(values: list[int], percent: int) -> None:
    """A percentile is the nearest rank's value, at most 1 % too high, also after a merge of two histograms."""
    whole, half = Histogram(), Histogram()
    for number, value in enumerate(values):
        (whole if number % 2 else half).record(value)
    whole.add(half)
    exact = sorted(values)[max(1, -(-len(values) * percent // 100)) - 1]
    assert exact <= whole.percentile(percent) <= exact * 1.01
    assert whole.maximum == max(values)


def test_an_empty_histogram_reads_zero() -> None:
    """A run without an ack still has a table."""
    assert Histogram().milliseconds() == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}


# --- the verdict ------------------------------------------------------------------------------------------------------

Books = tuple[Ledger, dict[str, list[Stored] | None]]


@st.composite
def clean_books(draw: st.DrawFn) -> Books:
    """A run in which the server kept every promise, reconnects and resends included."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    ledger, histories = Ledger(), {}
    for room_id in [f"room{number}" for number in range(draw(st.integers(1, 3)))]:
        length, people = draw(st.integers(3, 25)), draw(st.integers(2, 4))
        author = {seq: rng.randrange(people - 1) for seq in range(1, length + 1)}
        histories[room_id] = [Stored(seq, f"u{author[seq]}-{seq}") for seq in author]
        for seq in author:
            ledger.add_ack(room_id, Ack(seq, f"u{author[seq]}-{seq}", duplicate=rng.random() < 0.2))
        for person in range(people):
            inbox = Inbox(f"u{person}", room_id)
            inbox.floor = rng.choice([0, 0, 1])
            inbox.connected = True
            _listen(inbox, person, author, rng)
            ledger.inboxes.append(inbox)
    return ledger, dict(histories)


def _listen(inbox: Inbox, person: int, author: dict[int, int], rng: random.Random) -> None:
    """What this person receives of the room: live in order, after a drop by sync, one's own by acks."""
    inbox.open_connection()
    for seq, sender in author.items():
        if seq <= (inbox.floor or 0):
            continue
        if person and rng.random() < 0.1:
            inbox.open_connection()
            inbox.add_fetched(seq)
        elif sender == person:
            inbox.add_fetched(seq)
        else:
            inbox.add_live(seq)


@UNHURRIED
@given(clean_books())
def test_a_clean_run_is_clean(books: Books) -> None:
    """Reconnects, resends and own messages are no faults."""
    ledger, histories = books
    verdict = judge(ledger, dict(histories))
    assert verdict.clean, verdict.examples


def _room(ledger: Ledger) -> str:
    return next(iter(ledger.acks))


def _receiver(ledger: Ledger) -> Inbox:
    """The last user of the first room, who writes nothing."""
    return [inbox for inbox in ledger.inboxes if inbox.room_id == _room(ledger)][-1]


def _history(books: Books) -> list[Stored]:
    stored = books[1][_room(books[0])]
    assert stored is not None
    return stored


def _drop_delivery(books: Books) -> None:
    box = _receiver(books[0])
    last = max(box.everything())
    box.received = SeqSet(seq for seq in box.everything() if seq != last)
    box.live = SeqSet()


def _deliver_twice(books: Books) -> None:
    box = _receiver(books[0])
    box.open_connection()
    box.add_live(3)
    box.add_live(3)


def _swap_deliveries(books: Books) -> None:
    box = _receiver(books[0])
    box.open_connection()
    box.add_live(3)
    box.add_live(2)


def _lose_last_stored(books: Books) -> None:
    _history(books).pop()


def _store_twice(books: Books) -> None:
    history = _history(books)
    history.append(Stored(len(history) + 1, history[0].client_id))


def _ack_one_seq_twice(books: Books) -> None:
    ledger = books[0]
    ledger.acks[_room(ledger)] += [Ack(1, _history(books)[0].client_id or "", duplicate=False)] * 2


def _refuse_a_stored_one(books: Books) -> None:
    books[0].refused.add(_history(books)[0].client_id or "")


def _stay_away(books: Books) -> None:
    _receiver(books[0]).connected = False


def _hide_history(books: Books) -> None:
    books[1][_room(books[0])] = None


def _leave_unanswered(books: Books) -> None:
    books[0].unacknowledged = 1


FAULTS: dict[str, tuple[Callable[[Books], None], set[str]]] = {
    "a delivery is dropped": (_drop_delivery, {Breach.LOST}),
    "a delivery comes twice": (_deliver_twice, {Breach.DUPLICATE_DELIVERY}),
    "two deliveries are swapped": (_swap_deliveries, {Breach.OUT_OF_ORDER}),
    "an acked message is not stored": (_lose_last_stored, {Breach.NOT_STORED, Breach.HOLE}),
    "a message is stored twice": (_store_twice, {Breach.DUPLICATE_STORED}),
    "one seq is acked twice": (_ack_one_seq_twice, {Breach.DUPLICATE_ACK}),
    "a refused message is stored": (_refuse_a_stored_one, {Breach.REFUSED_STORED}),
    "a user is away at the end": (_stay_away, {Breach.ABSENT}),
    "a history cannot be read": (_hide_history, {Breach.UNREAD_ROOM}),
    "a message is never answered": (_leave_unanswered, {Breach.UNANSWERED}),
}


@pytest.mark.parametrize("name", FAULTS)
@UNHURRIED
@given(books=clean_books())
def test_each_fault_is_named(name: str, books: Books) -> None:
    """One fault in a run that was clean gives its own breach and no other."""
    inject, expected = FAULTS[name]
    inject(books)
    verdict = judge(*books)
    assert set(verdict.breaches) == expected


def test_a_hole_that_nobody_acked_is_a_hole() -> None:
    """Seqs are contiguous whether or not their messages were acknowledged."""
    ledger = Ledger(acks={"room": [Ack(1, "a", False), Ack(3, "c", False)]})
    verdict = judge(ledger, {"room": [Stored(1, "a"), Stored(3, "c")]})
    assert verdict.breaches == {Breach.HOLE: 1}
    assert verdict.examples == {Breach.HOLE: ["room seq 2"]}


def test_an_ack_for_another_message_is_a_loss() -> None:
    """The history must have the acknowledged message under its seq, not just any."""
    verdict = judge(Ledger(acks={"room": [Ack(1, "a", False)]}), {"room": [Stored(1, "b")]})
    assert verdict.breaches == {Breach.NOT_STORED: 1}


def test_silence_is_not_clean() -> None:
    """A server that acknowledges nothing has shown nothing."""
    assert judge(Ledger(), {"room": []}).breaches == {Breach.SILENCE: 1}
    assert judge(Ledger(), {"room": []}, expect_acks=False).clean


def test_ledgers_of_several_processes_add_up() -> None:
    """A seq acked in two processes is found only in the merged books."""
    left, right = (Ledger(acks={"room": [Ack(1, name, False)]}, unacknowledged=1) for name in "ab")
    left.merge(right)
    assert left.last_seqs() == {"room": 1}
    assert left.unacknowledged == 2
    assert judge(left, {"room": None}).breaches[Breach.DUPLICATE_ACK] == 1


# --- the wire ---------------------------------------------------------------------------------------------------------


def _frame(payload: bytes, first: int = 0x81) -> bytes:
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    if len(payload) < 65_536:
        return bytes((first, 126)) + len(payload).to_bytes(2, "big") + payload
    return bytes((first, 127)) + len(payload).to_bytes(8, "big") + payload


SIZES = st.lists(st.sampled_from([0, 1, 125, 126, 300, 65_535, 65_536]), max_size=5)


@UNHURRIED
@given(SIZES, st.lists(st.integers(0, 2**18), max_size=12))
async def test_frames_survive_any_cut(sizes: list[int], cuts: list[int]) -> None:
    """However the bytes arrive, every message comes whole, once and in order, also in fragments."""
    expected = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    stream = b"".join(_frame(payload) for payload in expected) + _frame(b"frag", 0x01) + _frame(b"ment", 0x80)
    received: list[bytes] = []
    websocket = WebSocket("http://localhost", received.append, lambda reason: None)
    websocket._opened.set_result(None)
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    for start, end in zip([0, *ends], ends, strict=False):
        websocket.data_received(stream[start:end])
    assert received == [*expected, b"fragment"]


# --- the command line -------------------------------------------------------------------------------------------------

CHAT = ["chat", "--connections", "10", "--rooms", "2", "--senders", "3"]


def test_options_become_a_plan() -> None:
    """Every option reaches the plan, several servers included."""
    urls = ["--url", "http://one:1", "--url", "http://two:2"]
    options = parser().parse_args([*CHAT, "--seconds", "2.5", "--rate", "50", "--window", "4", "--payload", "9", *urls])
    assert plan_of(options) == Plan(10, 2, 3, 2.5, ("http://one:1", "http://two:2"), 1, 50.0, 4, 9, 100)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["idle", "--senders", "1"],
        [*CHAT, "--seconds", "-1"],
        [*CHAT, "--seconds", "nan"],
        [*CHAT, "--connections", "0"],
        [*CHAT, "--url", "ftp://host"],
        [*CHAT, "--secret", "a", "--tokens", "b"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that make no sense end with a message and status 2."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (["--rooms", "11"], "--rooms"),
        (["--senders", "11"], "--senders"),
        (["--processes", "11"], "--processes"),
        (["--payload", "10001"], "--payload"),
        (["--start-server", "--url", "http://one:1"], "--start-server"),
        (["--plot", "out.gif"], "--plot"),
        (["--tokens", "no-such-file"], "no-such-file"),
        (["--json", "no-such-directory/out.json"], "no-such-directory"),
    ],
)
def test_contradictions_are_status_2(extra: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that contradict one another, or a missing file, end with a message naming them and status 2."""
    assert main([*CHAT, *extra]) == 2
    assert word in capsys.readouterr().err


async def test_no_server_is_said_in_a_sentence() -> None:
    """Where nothing listens the driver says so, without a traceback, and ends with status 3."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests", *CHAT, "--url", url, "--secret", "s" * 32),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 3
    assert url in errors.decode()
    assert "Traceback" not in errors.decode()


def test_the_secret_is_found_where_it_is(tmp_path: Path) -> None:
    """Given, else JWT_SECRET, else the development secret in DATA_DIR; else a sentence that says what to do."""
    (tmp_path / "jwt-secret").write_text("from-the-file\n")
    environment = {"DATA_DIR": str(tmp_path), "JWT_SECRET": "variable" * 4}
    assert find_secret("given" * 7, environment) == "given" * 7
    assert find_secret(None, environment) == "variable" * 4
    assert find_secret(None, {"DATA_DIR": str(tmp_path)}) == "from-the-file"
    with pytest.raises(NoTokens, match="--secret"):
        find_secret(None, {"DATA_DIR": str(tmp_path / "nothing")})
    with pytest.raises(NoTokens, match="32 bytes"):
        find_secret("short", environment)


def test_a_short_token_file_is_refused(tmp_path: Path) -> None:
    """A run needs one token a connection and one for the owner, and says how many are missing."""
    file = tmp_path / "tokens"
    file.write_text("\n".join(sign_tokens(["a", "b"], "s" * 32)) + "\n")
    assert len(read_tokens(file, 2)) == 2
    with pytest.raises(NoTokens, match="has 2 tokens, this run needs 3"):
        read_tokens(file, 3)


def test_users_are_dealt_out_evenly() -> None:
    """Over processes and servers every user appears once, the first S send, and the rates add up."""
    plan = Plan(10, 4, 5, 1.0, ("http://one", "http://two"), processes=3, rate=100.0)
    names = user_ids("run", plan)
    shares = deal(plan, names[1:], [f"token {name}" for name in names[1:]], ["r0", "r1", "r2", "r3"])
    seats = sorted((seat for share in shares for seat in share.seats), key=lambda seat: int(seat.name.split("-")[-1]))
    assert [seat.name for seat in seats] == names[1:]
    assert [seat.sends for seat in seats] == [True] * 5 + [False] * 5
    assert [seat.room_id for seat in seats[:5]] == ["r0", "r1", "r2", "r3", "r0"]
    assert {seat.url for seat in seats} == {"http://one", "http://two"}
    assert sum(share.rate for share in shares) == pytest.approx(100.0)


@UNHURRIED
@given(st.integers(2, 5), st.integers(1, 12), st.integers(2, 6), st.booleans())
def test_a_room_is_on_several_nodes(nodes: int, rooms: int, people: int, apart: bool) -> None:
    """A room's members are spread over the servers, and apart from its senders when that is asked for."""
    urls = tuple(f"http://node{number}" for number in range(nodes))
    plan = Plan(rooms * people, rooms, rooms, 1.0, urls, apart=apart)
    names = user_ids("run", plan)[1:]
    seats = deal(plan, names, names, [f"r{number}" for number in range(rooms)])[0].seats
    for room in {seat.room_id for seat in seats}:
        sender, *others = (seat for seat in seats if seat.room_id == room)
        assert sender.sends
        used = {seat.url for seat in others}
        assert len(used | {sender.url}) == min(nodes, people)
        assert not apart or sender.url not in used


def test_the_slow_ones_are_the_last() -> None:
    """A share of the users, rounded up, and never a sender."""
    plan = Plan(30, 3, 3, 1.0, slow=5)
    names = user_ids("run", plan)[1:]
    seats = deal(plan, names, names, ["r0", "r1", "r2"])[0].seats
    assert [seat.name for seat in seats if seat.slow] == names[-2:]


# --- the report -------------------------------------------------------------------------------------------------------


def _outcome() -> Outcome:
    outcome = Outcome(Plan(2, 1, 1, 1.0), "run", connect_seconds=0.5, send_seconds=2.0, verdict=Verdict())
    outcome.phases["connecting"].joined = 2
    outcome.phases["sending"].acked = outcome.phases["sending"].sent = 10
    outcome.phases["sending"].ack.record(1500)
    return outcome


def test_the_table_shows_rates_and_verdict() -> None:
    """Rates are per second of their phase; breaches and errors are named with examples."""
    outcome = _outcome()
    assert figures(outcome)["ackedPerSecond"] == 5.0
    assert figures(outcome)["connectsPerSecond"] == 4.0
    assert "clean: of 10 acked messages" in table(outcome)
    assert outcome.verdict is not None
    outcome.verdict.add(Breach.HOLE, ["room seq 2"], 1)
    outcome.phases["sending"].errors["RATE_LIMITED"] += 3
    text = table(outcome)
    assert "NOT CLEAN" in text
    assert "room seq 2" in text
    assert "RATE_LIMITED 3" in text
    assert "RATE_LIMITS=off" in text


def test_the_figures_are_json() -> None:
    """--json writes them as they are."""
    assert json.loads(json.dumps(figures(_outcome())))["clean"] is True


def test_the_bench_table_is_markdown() -> None:
    """Every line has as many cells as the head."""
    lines = render([Row("group commit", "20,000", remark="a | b".replace("|", "and"))], markdown=True).splitlines()
    assert {line.count("|") for line in lines} == {8}
