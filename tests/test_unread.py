"""Counting the unread: the tally of live messages, and the log's own counts, against counting one by one."""

import random
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.tally import Tally
from protocol.types import Role
from server.app import utc_now
from storage import room_states
from storage.membership import Membership, as_membership, new_member
from storage.messages import message_key
from storage.mongo import Mongo
from storage.room_states import RoomStates, Stretch, Unread

USERS = ["ann", "ben", "cat"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Said(NamedTuple):
    """One message, for the naive count."""

    seq: int
    sender_id: str
    mentions: list[str]
    deleted: bool


def naive(messages: list[Said], user_id: str, read_seq: int) -> Unread:
    """One by one."""
    unread = [m for m in messages if m.seq > read_seq and m.sender_id != user_id and not m.deleted]
    return Unread(len(unread), sum(bool({user_id, "@room"} & set(m.mentions)) for m in unread))


SENDS = st.tuples(st.just("send"), st.sampled_from(USERS), st.lists(st.sampled_from([*USERS, "@room"]), unique=True))
ACTS = st.lists(st.one_of(SENDS, st.tuples(st.just("delete"), st.integers(1, 40))), max_size=60)


@given(floor=st.integers(0, 20), acts=ACTS)
def test_a_tally_counts_as_one_would_by_hand(floor: int, acts: list[Any]) -> None:
    """After any sends and deletes, for every member and every watermark."""
    tally = Tally(floor)
    messages: list[Said] = []
    for act in acts:
        if act[0] == "send":
            _, sender_id, mentions = act
            tally.append(sender_id, mentions, "text", NOW, deleted=False)
            messages.append(Said(tally.last, sender_id, mentions, deleted=False))
        elif act[1] <= tally.last:
            tally.delete(act[1])
            messages = [m._replace(deleted=m.deleted or m.seq == act[1]) for m in messages]
    assert tally.last == floor + len(messages)
    assert tally.newest is None or tally.newest.seq == tally.last
    assert not messages or (tally.newest is not None and (tally.newest.text is None) == messages[-1].deleted)
    for user_id in [*USERS, "dan"]:
        for read_seq in range(floor, tally.last + 2):
            assert tally.above(user_id, read_seq) == naive(messages, user_id, read_seq)


def test_a_delete_below_a_tally_takes_back_what_was_counted_there() -> None:
    """What the store counted is older than the delete."""
    tally = Tally(10)
    tally.append("ann", [], "text", NOW, deleted=False)
    tally.counted["ben"] = (3, Unread(7, 0))  # type: ignore[assignment]
    tally.delete(11)
    assert tally.counted
    tally.delete(4)
    assert not tally.counted


async def fill(mongo: Mongo, room_id: str, count: int, chance: random.Random) -> list[Said]:
    """A room's log, some of it deleted, some of it mentioning."""
    messages, documents = [], []
    for seq in range(1, count + 1):
        sender_id, deleted = chance.choice(USERS), chance.random() < 0.05
        mentions = [] if deleted or chance.random() < 0.9 else chance.sample([*USERS, "@room"], 2)
        messages.append(Said(seq, sender_id, mentions, deleted))
        document: dict[str, Any] = {
            "_id": message_key(room_id, seq),
            "roomId": room_id,
            "seq": seq,
            "senderId": sender_id,
            "clientId": f"{seq}",
            "text": None if deleted else f"text {seq}",
            "mentions": mentions,
            "createdAt": NOW,
        }
        documents.append({**document, "deletedAt": NOW} if deleted else document)
    await mongo["messages"].insert_many(documents)
    return messages


@pytest.mark.parametrize("read_through_max", [room_states.READ_THROUGH_MAX, 3])
async def test_the_log_counts_as_one_would_by_hand(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, read_through_max: int
) -> None:
    """Short stretches, which are read through, and long ones, which are not; beside other rooms."""
    monkeypatch.setattr(room_states, "READ_THROUGH_MAX", read_through_max)
    chance = random.Random(3)
    states = RoomStates(mongo)
    for room_id in ("aaa", "zzz"):
        await fill(mongo, room_id, 50, chance)
    messages = await fill(mongo, "room", 400, chance)
    stretches = [
        Stretch("room", user_id, after, last)
        for user_id in [*USERS, "dan"]
        for after, last in ((0, 400), (399, 400), (120, 300), (390, 400))
    ]
    counted = await states.unread(stretches)
    for stretch, unread in zip(stretches, counted, strict=True):
        assert unread == naive(messages[: stretch.last], stretch.user_id, stretch.after), stretch
    memberships = [_member(room_id, read_seq) for room_id, read_seq in (("room", 10), ("aaa", 50), ("empty", 0))]
    seen = await states.of(memberships)
    assert (seen["room"].last_seq, Unread(seen["room"].unread, seen["room"].mentions)) == (
        400,
        naive(messages, "ann", 10),
    )
    assert (seen["aaa"].unread, seen["empty"].last_seq, seen["empty"].last_message) == (0, 0, None)
    await states.close()


async def test_long_stretches_are_not_read_through(mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three look-ups goes by an index and examines little more than what it counts."""
    monkeypatch.setattr(room_states, "READ_THROUGH_MAX", 3)
    messages = await fill(mongo, "room", 600, random.Random(5))
    stretch = Stretch("room", "ann", 0, 600)
    counts = [
        sum(m.sender_id == "ann" for m in messages),
        sum(m.deleted and m.sender_id != "ann" for m in messages),
        naive(messages, "ann", 0).mentions,
    ]
    for pipeline, count in zip(room_states._look_up(stretch, 0), counts, strict=True):
        explained = await mongo.database.command(
            "explain", {"aggregate": "messages", "pipeline": pipeline, "cursor": {}}, verbosity="executionStats"
        )
        stages = explained.get("stages")
        statistics = stages[0]["$cursor"]["executionStats"] if stages else explained["executionStats"]
        assert statistics["totalDocsExamined"] <= 2 * count + 10, pipeline[0]


def _member(room_id: str, read_seq: int) -> Membership:
    return as_membership(new_member(room_id, "ann", Role.MEMBER, utc_now(), read_seq))
