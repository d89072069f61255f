"""Group commit: the messages of some rooms, appended in batches, each batch one ordered insert.

While a batch is in flight the next one gathers. A message's seq is its room's cached tail plus one; the primary key
(room, seq) is the judge. What a lane promises, whoever else writes to the same rooms:

- A seq below a room's tail is always taken, for a batch is inserted in order and stops at its first collision.
- On a seq collision the tail was stale: it is read again and the rest of the batch is numbered anew.
- On a clientId collision the message was stored before: its sender gets the original, and the rest is numbered anew,
  so that no hole is left.
- After an unknown outcome the tails are forgotten, and read anew before anything else.

Tails come from majority reads in the lane's causal session, or from acknowledged inserts, so that a fail-over can
never take back what a seq was built on.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from protocol.errors import Conflict, Internal, Unavailable
from storage.mongo import DUPLICATE_KEY, BulkWriteError, Collection, Document, Session, is_outage, timeout

BATCH_MAX = 128
"""Larger batches gain little; the first of a batch waits for the last."""
TURNS_BETWEEN_BATCHES = 2
"""Turns of the loop: one writes what the batch has brought, one reads."""
QUEUE_MAX = 10_000
TAILS_MAX = 50_000
PATIENCE_SECONDS = 4.0
"""How long a message may wait for the store in all, below an event's deadline of 5 s."""
LAST_TRY_SECONDS = 0.5
"""With less patience left than this a message is not tried again."""
RELOAD_PAUSE_SECONDS = 0.02

log = structlog.get_logger()


class Appended(NamedTuple):
    """A message as stored, and whether it had been stored before."""

    document: Document
    duplicate: bool


Settled = Callable[[Appended | Exception], None]


@dataclass(slots=True, eq=False)
class Append:
    """A message on its way: its document without a seq, and who is told, synchronously, what came of it."""

    document: Document
    patience_ends: float
    settled: "Settled"
    session_id: str | None = None
    followers: "list[Append]" = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same message, sent again."""
        return self.document["roomId"], self.document["senderId"], self.document["clientId"]

    def settle(self, appended: Appended) -> None:
        """Answer the sender and all who sent the same meanwhile."""
        self._answer(appended)
        again = Appended(appended.document, duplicate=True)
        for follower in self.followers:
            follower._answer(again)

    def _answer(self, appended: Appended) -> None:
        if appended.duplicate and appended.document["digest"] != self.document["digest"]:
            self._tell(Conflict("this clientId was used in this room with another payload"))
        else:
            self._tell(appended)

    def _tell(self, outcome: "Appended | Exception") -> None:
        try:
            self.settled(outcome)
        except Exception:
            log.exception("who was told of a message failed")

    def fail(self, error: Exception) -> None:
        """The outcome is unknown, for the sender and for all who sent the same."""
        for append in (self, *self.followers):
            append._tell(error)


class Lane:
    """One batch in flight, the next one gathering.

    `key_of(room_id, seq)` makes the primary key; `read_tails` reads last seqs in a session. `on_batch(size)` is told
    of every insert.
    """

    def __init__(
        self,
        collection: Collection,
        start_session: Callable[[], Awaitable[Session]],
        read_tails: Callable[[Sequence[str], Session], Awaitable[dict[str, int]]],
        key_of: Callable[[str, int], bytes],
        on_batch: Callable[[int], None],
    ) -> None:
        self._collection = collection
        self._start_session = start_session
        self._read_tails = read_tails
        self._key_of = key_of
        self._on_batch = on_batch
        self._session: Session | None = None
        self._waiting: deque[Append] = deque()
        self._under_way: dict[tuple[str, str, str], Append] = {}
        self._tails: OrderedDict[str, int] = OrderedDict()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    def append(self, append: Append) -> None:
        """Take a place in the room's order, now. The result comes when the message is durable."""
        if self._closed or len(self._waiting) >= QUEUE_MAX:
            append.fail(Unavailable("too many messages wait for the store"))
            return
        leader = self._under_way.setdefault(append.key, append)
        if leader is not append:
            leader.followers.append(append)
            return
        self._waiting.append(append)
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run())

    def under_way(self, key: tuple[str, str, str]) -> Append | None:
        """The append of this message, if its outcome is not known yet."""
        return self._under_way.get(key)

    async def close(self) -> None:
        """Commit what was taken, and take no more."""
        self._closed = True
        if self._runner is not None:
            await asyncio.wait([self._runner])
        if self._session is not None:
            await self._session.end_session()

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._take()
                if batch:
                    await self._commit_or_fail(batch)
                    # The acks go out first, and what they are answered with makes the next batch larger.
                    for _ in range(TURNS_BETWEEN_BATCHES):
                        await asyncio.sleep(0)
        finally:
            self._runner = None

    def _take(self) -> list[Append]:
        """The next batch; what has waited too long behind an absent store is given up instead."""
        batch: list[Append] = []
        latest = time.monotonic() + LAST_TRY_SECONDS
        while self._waiting and len(batch) < BATCH_MAX:
            append = self._waiting.popleft()
            if append.patience_ends < latest:
                self._give_up([append], Unavailable())
            else:
                batch.append(append)
        return batch

    async def _commit_or_fail(self, batch: list[Append]) -> None:
        left = list(batch)
        try:
            with timeout(min(append.patience_ends for append in batch) - time.monotonic()):
                await self._commit(left)
        except Exception as error:
            for append in left:
                self._tails.pop(append.document["roomId"], None)
            if is_outage(error) or isinstance(error, Unavailable):
                log.warning("batch outcome unknown", messages=len(left), reason=type(error).__name__)
                self._give_up(left, Unavailable())
            else:
                log.exception("batch failed", messages=len(left))
                self._give_up(left, Internal())

    async def _commit(self, left: list[Append]) -> None:
        """Insert until nothing is left; `left` always holds those whose outcome is not known."""
        if self._session is None:
            self._session = await self._start_session()
        session = self._session
        while left:
            await self._load_tails(left, session)
            self._number(left)
            self._on_batch(len(left))
            try:
                await self._collection.insert_many([append.document for append in left], session=session)
            except BulkWriteError as error:
                if is_outage(error):
                    raise
                await self._collided(left, error.details["writeErrors"][0], session)
            else:
                self._settle(left, len(left))

    async def _load_tails(self, batch: list[Append], session: Session) -> None:
        missing = {room_id for append in batch if (room_id := append.document["roomId"]) not in self._tails}
        if missing:
            self._tails.update(await self._read_tails(list(missing), session))

    def _number(self, batch: list[Append]) -> None:
        following: dict[str, int] = {}
        for append in batch:
            room_id = append.document["roomId"]
            seq = following.get(room_id, self._tails[room_id]) + 1
            following[room_id] = append.document["seq"] = seq
            append.document["_id"] = self._key_of(room_id, seq)

    def _settle(self, left: list[Append], count: int) -> None:
        """The first ones are durable: their seqs are the tails now."""
        for append in left[:count]:
            document = append.document
            self._tails[document["roomId"]] = document["seq"]
            self._tails.move_to_end(document["roomId"])
            del self._under_way[append.key]
            append.settle(Appended(document, duplicate=False))
        del left[:count]
        while len(self._tails) > TAILS_MAX:
            self._tails.popitem(last=False)

    async def _collided(self, left: list[Append], fault: Document, session: Session) -> None:
        """One message of the batch was refused: those before it are durable, those after it were not tried."""
        if fault["code"] != DUPLICATE_KEY:
            raise RuntimeError(f"insert refused with code {fault['code']}")
        self._settle(left, fault["index"])
        collided = left[0]
        if "_id" in fault["keyPattern"]:
            room_id = collided.document["roomId"]
            stale = self._tails.pop(room_id)
            self._tails.update(await self._read_tails([room_id], session))
            if self._tails[room_id] == stale:
                # The other writer's message is there but not yet on a majority; building on it could leave a hole.
                await asyncio.sleep(RELOAD_PAUSE_SECONDS)
            return
        room_id, sender_id, client_id = collided.key
        original = await self._collection.find_one(
            {"roomId": room_id, "senderId": sender_id, "clientId": client_id}, session=session
        )
        if original is None:
            raise Unavailable
        del left[0], self._under_way[collided.key]
        collided.settle(Appended(original, duplicate=True))

    def _give_up(self, batch: list[Append], error: Exception) -> None:
        for append in batch:
            del self._under_way[append.key]
            append.fail(error)
