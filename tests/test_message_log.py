"""The append logic under collisions and faults: several logs, as of several nodes, on the same rooms."""

import asyncio
import copy
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect

from protocol.errors import Conflict, Unavailable
from server.app import utc_now
from server.embedded import EmbeddedServers
from storage.lane import Appended
from storage.messages import Draft, MessageLog, as_message, message_key, payload_digest
from storage.mongo import BulkWriteError, Collection, Document, Mongo, is_outage

LOGS = 3
ROOMS = 2
SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Faults:
    """What becomes of the next inserts of one log: `before` and `after` lose the connection at that moment; `late` too,
    and the server carries out later what it had been sent."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.late: list[asyncio.Task[None]] = []

    def take(self) -> str:
        """The fate of this insert."""
        return self.script.pop(0) if self.script else "none"


class FaultyCollection:
    """The driver's collection, losing its connection in `insert_many` as scripted."""

    def __init__(self, collection: Collection, faults: Faults) -> None:
        self._collection = collection
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    async def insert_many(self, documents: Sequence[Document], session: Any) -> Any:
        """Insert, or not, or not yet."""
        fate = self._faults.take()
        if fate == "late":
            self._faults.late.append(asyncio.create_task(self._insert_late(copy.deepcopy(list(documents)))))
        if fate in ("before", "late"):
            raise AutoReconnect("connection lost")
        result = await self._collection.insert_many(documents, session=session)
        if fate == "after":
            raise AutoReconnect("connection lost")
        return result

    async def _insert_late(self, documents: list[Document]) -> None:
        await asyncio.sleep(0.01)
        try:
            await self._collection.insert_many(documents)
        except BulkWriteError as error:
            if is_outage(error):
                raise


class FaultyMongo:
    """What a log needs of a client, with faults in the log's own collection."""

    def __init__(self, mongo: Mongo, faults: Faults) -> None:
        self._mongo = mongo
        self._faults = faults

    def __getitem__(self, name: str) -> Any:
        return FaultyCollection(self._mongo[name], self._faults)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mongo, name)


class Node(NamedTuple):
    """One of several logs on a database."""

    log: MessageLog
    faults: Faults


class Send(NamedTuple):
    """One send: by which log, to which room, by whom, under which clientId, saying what."""

    node: int
    room: int
    sender: str
    client_id: str | None
    text: str


SENDS = st.lists(
    st.builds(
        Send,
        node=st.integers(0, LOGS - 1),
        room=st.integers(0, ROOMS - 1),
        sender=st.sampled_from(["alice", "bob"]),
        client_id=st.one_of(st.none(), st.sampled_from(["one", "two", "three", "four"])),
        text=st.sampled_from(["same", "same", "other"]),
    ),
    min_size=1,
    max_size=60,
)
SCRIPTS = st.lists(
    st.lists(st.sampled_from(["none", "before", "after", "late"]), max_size=4), min_size=LOGS, max_size=LOGS
)


@pytest.fixture
async def nodes(mongo: Mongo, stores: EmbeddedServers, database: str) -> AsyncIterator[list[Node]]:
    """Several logs on the database of `mongo`, each with a client of its own, of the same driver."""
    clients = [Mongo(stores.mongodb_url, database, client_class=type(mongo._client)) for _ in range(LOGS)]
    made = []
    for client in clients:
        faults = Faults()
        made.append(Node(MessageLog(FaultyMongo(client, faults), utc_now, lambda size: None), faults))  # type: ignore[arg-type]
    yield made
    for node, client in zip(made, clients, strict=True):
        await node.log.close()
        await client.close()


def draft_of(send: Send, rooms: list[str]) -> Draft:
    """What the log is given for a send."""
    return Draft(
        room_id=rooms[send.room],
        sender_id=send.sender,
        client_id=send.client_id,
        text=send.text,
        reply_to=None,
        mentions=[],
        metadata={},
        digest=payload_digest([send.text]),
    )


Outcome = tuple[Send, Appended | Conflict]


async def deliver(nodes: list[Node], sends: list[Send], rooms: list[str], outcomes: list[Outcome]) -> list[Send]:
    """Send all at once; returns those with an unknown outcome."""
    futures = [nodes[send.node].log.append(draft_of(send, rooms)) for send in sends]
    unknown = []
    for send, result in zip(sends, await asyncio.gather(*futures, return_exceptions=True), strict=True):
        if isinstance(result, Unavailable):
            unknown.append(send)
        else:
            assert isinstance(result, Appended | Conflict), repr(result)
            outcomes.append((send, result))
    return unknown


@SETTINGS
@given(sends=SENDS, scripts=SCRIPTS)
async def test_any_faults_and_collisions_leave_a_log_without_hole_or_double(
    mongo: Mongo, nodes: list[Node], sends: list[Send], scripts: list[list[str]]
) -> None:
    """Contiguous seqs, one row a clientId, every ack true, the first payload wins; whatever several nodes suffer."""
    rooms = [secrets.token_urlsafe(16) for _ in range(ROOMS)]
    outcomes: list[Outcome] = []
    for node, script in zip(nodes, scripts, strict=True):
        node.faults.script = list(script)
    unknown = await deliver(nodes, sends, rooms, outcomes)
    for node in nodes:
        node.faults.script.clear()
    while unknown:
        # Without a clientId it is another message when it is sent again; nobody knows whether the first one is there.
        unknown = await deliver(nodes, unknown, rooms, outcomes)
    for node in nodes:
        await asyncio.gather(*node.faults.late)
        node.faults.late.clear()
    for index, room_id in enumerate(rooms):
        stored = await mongo["messages"].find({"roomId": room_id}).sort("_id", 1).to_list(None)
        check_room(room_id, stored, [(send, result) for send, result in outcomes if send.room == index])


def check_room(room_id: str, stored: list[Document], outcomes: list[Outcome]) -> None:
    """What is stored and what was answered agree."""
    assert [document["seq"] for document in stored] == list(range(1, len(stored) + 1))
    assert [document["_id"] for document in stored] == [message_key(room_id, n + 1) for n in range(len(stored))]
    by_key = {(document["senderId"], document["clientId"]): document for document in stored}
    assert len(by_key) == len(stored)
    firsts: defaultdict[tuple[str, str | None], int] = defaultdict(int)
    for send, result in outcomes:
        document = by_key.get((send.sender, send.client_id or ""))
        if isinstance(result, Conflict):
            assert document is not None
            assert document["text"] != send.text
            continue
        if document is None:
            document = stored[result.document["seq"] - 1]
            assert (document["anonymous"], result.duplicate) == (True, False)
        assert as_message(result.document) == as_message(document)
        assert (document["text"], document["senderId"]) == (send.text, send.sender)
        firsts[send.sender, send.client_id] += send.client_id is not None and not result.duplicate
    assert all(count <= 1 for count in firsts.values())


async def test_a_crowd_on_one_room_from_several_nodes(mongo: Mongo, nodes: list[Node]) -> None:
    """Hundreds of concurrent appends by three nodes to one room: each sender's messages keep their order."""
    room_id = secrets.token_urlsafe(16)
    numbered = range(300)
    futures = [
        nodes[number % LOGS].log.append(
            draft_of(Send(number % LOGS, 0, f"sender{number % LOGS}", f"id{number}", "text"), [room_id])
        )
        for number in numbered
    ]
    results = await asyncio.gather(*futures)
    assert sorted(result.document["seq"] for result in results) == list(range(1, 301))
    assert not any(result.duplicate for result in results)
    for node in range(LOGS):
        seqs = [result.document["seq"] for result in results[node::LOGS]]
        assert seqs == sorted(seqs)
