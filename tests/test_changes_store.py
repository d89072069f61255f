"""Changes of messages in the store: exact whoever else changes the same message, and found again by the feed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protocol.errors import NotFound, ParleyError
from protocol.resources import Message, ThreadSummary
from storage.change import Change, Delete, Edit, Pin, React
from storage.change_feed import ChangeFeed, Position
from storage.changes import EDITS_KEPT, ChangeStore, Outcome
from storage.messages import Draft, MessageLog, message_key
from storage.mongo import Mongo
from storage.reactions import ReactionStore
from storage.threads import ThreadStore

ROOM = "room"
THUMB, HEART = "👍", "❤️"
BEGINNING = Position(datetime(2020, 1, 1, tzinfo=UTC), "", 0)


def clock() -> datetime:
    """The time, as stores keep it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass
class Node:
    """The stores of one process."""

    log: MessageLog
    reactions: ReactionStore
    threads: ThreadStore
    changes: ChangeStore
    feed: ChangeFeed

    async def send(self, text: str = "hello", room_id: str = ROOM, reply_to: int | None = None) -> int:
        """Append a message of ann's; returns its seq."""
        draft = Draft(room_id, "ann", None, text, reply_to, ["bob"], {"a": 1}, b"digest")
        return int((await self.log.append(draft)).document["seq"])

    async def get(self, seq: int, room_id: str = ROOM) -> Message:
        """A message that is there."""
        message = await self.log.get(room_id, seq)
        assert message is not None
        return message

    async def react(self, seq: int, user_id: str, emoji: str = THUMB, *, remove: bool = False) -> Outcome:
        """Set or take back a reaction."""
        return await self.changes.make(React(ROOM, seq, user_id, emoji, remove))


@pytest.fixture
async def nodes(mongo: Mongo) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes on one database, with one room."""
    await mongo["rooms"].insert_one({"_id": ROOM, "pins": [], "updatedAt": clock()})
    pair = []
    for _ in range(2):
        reactions, threads = ReactionStore(mongo), ThreadStore(mongo)
        log = MessageLog(mongo, clock, lambda size: None)
        pair.append(Node(log, reactions, threads, ChangeStore(mongo, reactions, threads), ChangeFeed(mongo)))
    yield pair[0], pair[1]
    for node in pair:
        for store in (node.log, node.changes, node.feed, node.reactions, node.threads):
            await store.close()


@pytest.fixture
def node(nodes: tuple[Node, Node]) -> Node:
    """One process."""
    return nodes[0]


# --- reactions ---------------------------------------------------------------------------------------------------


async def test_a_user_counts_once(nodes: tuple[Node, Node], mongo: Mongo) -> None:
    """Fifty users on two nodes at once, one of them fifty times: fifty reactions, of which each made one."""
    seq = await nodes[0].send()
    users = [f"user-{number}" for number in range(50)] + ["user-0"] * 49
    outcomes = await asyncio.gather(*(nodes[n % 2].react(seq, user) for n, user in enumerate(users)))
    assert sum(outcome.changed for outcome in outcomes) == 50
    assert (await nodes[1].get(seq)).reactions == {THUMB: 50}
    assert await mongo["reactions"].count_documents({}) == 50
    stamps = [outcome.at for outcome in outcomes if outcome.changed]
    assert max(outcome.message.reactions[THUMB] for outcome in outcomes if outcome.at == max(stamps)) == 50

    outcomes = await asyncio.gather(*(nodes[n % 2].react(seq, user, remove=True) for n, user in enumerate(users)))
    assert sum(outcome.changed for outcome in outcomes) == 50
    assert (await nodes[1].get(seq)).reactions == {}
    assert await mongo["reactions"].count_documents({}) == 0


async def test_own_reactions_are_told_apart(node: Node) -> None:
    """What a user set on which message, in the order in which the message got them."""
    first, second, third = [await node.send() for _ in range(3)]
    assert (await node.react(first, "bob", HEART)).my_reactions == [HEART]
    assert (await node.react(first, "cyd")).my_reactions == [THUMB]
    assert (await node.react(first, "bob")).my_reactions == [HEART, THUMB]
    await node.react(second, "bob-2")
    messages = [await node.get(seq) for seq in (first, second, third)]
    assert await node.reactions.of_user("bob", messages) == {(ROOM, first): [HEART, THUMB]}
    assert await node.reactions.of_user("cyd", messages) == {(ROOM, first): [THUMB]}
    assert await node.reactions.of_user("dan", messages) == {}
    assert await node.reactions.of_user("bob", [messages[2]]) == {}


# --- edits and deletes -------------------------------------------------------------------------------------------


async def test_edits_at_once_keep_every_text(nodes: tuple[Node, Node]) -> None:
    """Of simultaneous edits on two nodes each replaces one; the latest by its time is what is stored."""
    seq = await nodes[0].send("0")
    outcomes = await asyncio.gather(*(nodes[n % 2].changes.make(Edit(ROOM, seq, str(n))) for n in range(1, 21)))
    stored = await nodes[0].get(seq)
    latest = [outcome.message for outcome in outcomes if outcome.at == max(outcome.at for outcome in outcomes)]
    assert latest[-1].text == stored.text
    history = await nodes[0].changes.edits(ROOM, seq)
    assert {text for text, _ in history} | {stored.text} == {str(n) for n in range(21)}
    assert len(history) == 20
    assert [at for _, at in history] == sorted(at for _, at in history)
    assert history[0] == ("0", stored.created_at)


async def test_the_edit_history_is_bounded(node: Node) -> None:
    """The latest replaced texts are kept, the oldest go."""
    seq = await node.send("0")
    for number in range(1, EDITS_KEPT + 11):
        await node.changes.make(Edit(ROOM, seq, str(number)))
    kept = [text for text, _ in await node.changes.edits(ROOM, seq)]
    assert kept == [str(number) for number in range(10, EDITS_KEPT + 10)]


async def test_a_delete_against_everything_else(nodes: tuple[Node, Node], mongo: Mongo) -> None:
    """Edits, reactions and a pin at the instant of a delete leave nothing behind, whoever comes first."""
    for _ in range(5):
        seq = await nodes[0].send()
        changes: list[Change] = [
            Edit(ROOM, seq, "other"), React(ROOM, seq, "bob", THUMB, False), Pin(ROOM, seq, True),
            Delete(ROOM, seq, "ann"), Delete(ROOM, seq, "bob"), Edit(ROOM, seq, "more"),
            React(ROOM, seq, "cyd", HEART, False), Pin(ROOM, seq, True),
        ]  # fmt: skip
        results = await asyncio.gather(
            *(nodes[n % 2].changes.make(change) for n, change in enumerate(changes)), return_exceptions=True
        )
        assert all(isinstance(result, Outcome | NotFound) for result in results), results
        deletes = [result for change, result in zip(changes, results, strict=True) if isinstance(change, Delete)]
        assert sorted(isinstance(delete, Outcome) and delete.changed for delete in deletes) == [False, True]
        message = await nodes[1].get(seq)
        assert (message.text, message.mentions, message.metadata, message.reactions) == (None, [], {}, {})
        assert message.deleted_at is not None
        assert message.edited_at is None
    assert await mongo["reactions"].count_documents({}) == 0
    assert await mongo["edits"].count_documents({}) == 0
    room = await mongo["rooms"].find_one({"_id": ROOM})
    assert room is not None
    assert room["pins"] == []


async def test_what_is_not_there_cannot_be_changed(node: Node) -> None:
    """A seq that the room lacks is NotFound, and makes nothing."""
    reaction = React(ROOM, 1, "ann", THUMB, False)
    changes: list[Change] = [Edit(ROOM, 1, "x"), Delete(ROOM, 1, "ann"), Pin(ROOM, 1, True), reaction]
    for change in changes:
        with pytest.raises(NotFound):
            await node.changes.make(change)
    assert await node.log.tail(ROOM) == 0


async def test_a_message_sent_again_after_it_was_deleted(node: Node) -> None:
    """The same clientId is still the same message, and another payload still a conflict."""
    draft = Draft(ROOM, "ann", "once", "hello", None, [], {}, b"one")
    seq = (await node.log.append(draft)).document["seq"]
    await node.changes.make(Delete(ROOM, seq, "ann"))
    again = await node.log.append(draft)
    assert again.duplicate
    assert (again.document["seq"], again.document["text"]) == (seq, None)
    with pytest.raises(ParleyError, match="another payload"):
        await node.log.append(Draft(ROOM, "ann", "once", "other", None, [], {}, b"two"))


async def test_nothing_is_left_of_a_room(node: Node, mongo: Mongo) -> None:
    """Reactions and edit history go with their room, and only with theirs."""
    for room_id in (ROOM, "roon"):
        seq = await node.send(room_id=room_id)
        await node.changes.make(React(room_id, seq, "bob", THUMB, False))
        await node.changes.make(Edit(room_id, seq, "other"))
    await node.changes.drop_room(ROOM)
    assert [row["roomId"] for row in await mongo["reactions"].find({}).to_list(None)] == ["roon"]
    assert [row["roomId"] for row in await mongo["edits"].find({}).to_list(None)] == ["roon"]


# --- threads -----------------------------------------------------------------------------------------------------


async def test_a_thread_is_its_replies(node: Node) -> None:
    """Count and last reply are exact; deleted replies neither count nor are listed; a deleted root keeps its thread."""
    root, other = await node.send(), await node.send()
    replies = [await node.send(reply_to=root) for _ in range(4)]
    await node.send(reply_to=other)
    await node.changes.make(Delete(ROOM, replies[-1], "ann"))
    await node.changes.make(Delete(ROOM, replies[0], "ann"))
    await node.changes.make(Delete(ROOM, root, "ann"))
    messages = [await node.get(seq) for seq in (root, other, replies[0], replies[1])]
    last = await node.get(replies[2])
    threads = await node.threads.summaries(messages)
    assert threads[ROOM, root] == ThreadSummary(count=2, last_seq=replies[2], last_at=last.created_at)
    assert threads.keys() == {(ROOM, root), (ROOM, other)}
    assert [reply.seq for reply in await node.threads.replies(ROOM, root, 0, 10)] == replies[1:3]
    assert [reply.seq for reply in await node.threads.replies(ROOM, root, replies[1], 10)] == replies[2:3]
    assert (await node.get(replies[0])).reply_to == root


async def test_a_summary_is_a_count_of_index_entries(node: Node, mongo: Mongo) -> None:
    """No message is read for it, however long the thread."""
    root = await node.send()
    for _ in range(3):
        await node.send(reply_to=root)
    explained = await mongo.database.command(
        "explain",
        {
            "aggregate": "messages",
            "pipeline": [
                {"$match": {"roomId": ROOM, "replyTo": {"$in": [root, root + 1]}}},
                {
                    "$group": {
                        "_id": {"roomId": "$roomId", "seq": "$replyTo"},
                        "count": {"$sum": 1},
                        "last": {"$max": {"seq": "$seq", "at": "$createdAt"}},
                    }
                },
            ],
            "cursor": {},
        },
        verbosity="executionStats",
    )
    figures = _figures(explained)
    assert (figures["totalDocsExamined"], figures["totalKeysExamined"] <= 5) == (0, True)


def _figures(explained: Any) -> dict[str, Any]:
    """The execution figures, wherever an explanation has them."""
    if isinstance(explained, dict):
        if "totalDocsExamined" in explained:
            return explained
        explained = list(explained.values())
    if isinstance(explained, list):
        for part in explained:
            if found := _figures(part):
                return found
    return {}


# --- the feed ----------------------------------------------------------------------------------------------------


async def test_the_feed_has_every_change_once(node: Node) -> None:
    """Page by page from any place: each changed message up to what was seen, by its last change, each once."""
    rooms = ("a", "b", "c")
    for room_id in rooms:
        for number in range(6):
            await node.send(room_id=room_id)
            if number % 2:
                await node.changes.make(Edit(room_id, number + 1, f"other {number}"))
    await node.changes.make(React("b", 2, "bob", THUMB, False))
    seen, position, found = dict.fromkeys(rooms, 5), BEGINNING, list[tuple[str, int]]()
    while page := await node.feed.after(position, seen, 2):
        found += [(changed.message.room_id, changed.message.seq) for changed in page]
        assert [changed.position for changed in page] == sorted(changed.position for changed in page)
        position = page[-1].position
    assert sorted(found) == [("a", 2), ("a", 4), ("b", 2), ("b", 4), ("c", 2), ("c", 4)]
    assert await node.feed.after(position, seen, 10) == []
    assert await node.feed.after(BEGINNING, {}, 10) == []


async def test_changes_of_one_instant_are_told_apart(node: Node, mongo: Mongo) -> None:
    """More changes at one time than fit into a page are still walked through, over rooms and seqs."""
    at = clock()
    rooms = ("a", "b")
    for room_id in rooms:
        for _ in range(5):
            seq = await node.send(room_id=room_id)
            await mongo["messages"].update_one({"_id": message_key(room_id, seq)}, {"$set": {"changedAt": at}})
    position, found = Position(at, "", 0), list[tuple[str, int]]()
    while page := await node.feed.after(position, dict.fromkeys(rooms, 9), 3):
        found += [(changed.message.room_id, changed.message.seq) for changed in page]
        position = page[-1].position
    assert found == [(room_id, seq) for room_id in rooms for seq in range(1, 6)]


async def test_the_feed_keeps_the_databases_time(nodes: tuple[Node, Node]) -> None:
    """A change made after a reading of the clock is not before it, and later than any before it, on whichever node."""
    seq = await nodes[0].send()
    before = await nodes[0].feed.now()
    outcomes = [await nodes[n % 2].react(seq, "bob", remove=bool(n % 2)) for n in range(6)]
    stamps = [outcome.at for outcome in outcomes]
    assert stamps == sorted(set(stamps))
    assert stamps[0] >= before
    assert before <= await nodes[1].feed.now() + timedelta(milliseconds=1)


async def test_the_time_of_the_feed_is_read_again_after_a_second(mongo: Mongo) -> None:
    """What was read for somebody else serves for a second, and never longer."""
    monotonic = 100.0
    feed = ChangeFeed(mongo, lambda: monotonic)
    first = await feed.now()
    monotonic += 0.9
    assert await feed.now() == first
    while await feed.now() == first:
        monotonic += 1.0
    await feed.close()
