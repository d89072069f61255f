"""Changes of stored messages: edits, deletes, reactions, pins, each exact whoever else changes the same message."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from protocol.errors import NotFound, ParleyError
from protocol.resources import Message, ThreadSummary
from storage.batcher import Batcher
from storage.beside import beside_key, beside_message, beside_room
from storage.change import Change, Delete, Edit, MessageState, Pin, React, apply
from storage.messages import as_message, message_key
from storage.mongo import Document, Mongo, Session, aggregate, transaction
from storage.reactions import ReactionStore
from storage.threads import ThreadStore

EDITS_KEPT: Final = 50
"""Replaced texts kept of one message, the latest; with 10,000 code points each, 2 MB at most."""
MESSAGES_AT_ONCE: Final = 16
"""Transactions under way, each on one message; well below the connections of a client."""

log = structlog.get_logger()


class Outcome(NamedTuple):
    """The message after a change, and whether the change made a difference.

    `at` is the change's time by the database's clock, later than that of any change of this message before it.
    `my_reactions` are those of who reacts; `pins` the room's after a pin or a delete, and whether they are others now.
    """

    message: Message
    changed: bool
    at: datetime
    my_reactions: list[str]
    pins: list[int]
    pins_changed: bool


class ChangeStore:
    """One transaction for all changes of a message that came meanwhile, applied in the order they came.

    So on one node outcomes come in the order of the changes; changes by several nodes meet in the database, and one of
    them goes again. Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo, reactions: ReactionStore, threads: ThreadStore) -> None:
        self._mongo = mongo
        self._messages = mongo["messages"]
        self._rooms = mongo["rooms"]
        self._edits = mongo["edits"]
        self._reactions = reactions
        self._threads = threads
        self._changes = Batcher(self._flush)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._changes.close()

    async def make(self, change: Change) -> Outcome:
        """Change a message.

        Raises: NotFound for a message that is not there, or was deleted; Conflict when there is no room for more
        reactions or pins.
        """
        return await self._changes.submit(change)

    async def edits(self, room_id: str, seq: int) -> list[tuple[str | None, datetime]]:
        """The texts that were replaced, oldest first, each with the time from which it stood."""
        documents = await self._edits.find(beside_message(room_id, seq)).sort("_id", 1).to_list(None)
        return [(document["text"], document["at"]) for document in documents]

    async def drop_room(self, room_id: str) -> None:
        """Delete what is kept beside the messages of a room that is no more, after the messages themselves."""
        await self._edits.delete_many(beside_room(room_id))
        await self._reactions.drop_room(room_id)

    # --- one batch ------------------------------------------------------------------------------------------------

    async def _flush(self, changes: list[Change]) -> list[Outcome | Exception]:
        places: dict[tuple[str, int], list[int]] = {}
        for index, change in enumerate(changes):
            places.setdefault((change.room_id, change.seq), []).append(index)
        outcomes: dict[int, Outcome | Exception] = {}
        slots = asyncio.Semaphore(MESSAGES_AT_ONCE)

        async def run(place: tuple[str, int], indexes: list[int]) -> None:
            async with slots:
                outcomes.update(zip(indexes, await self._run(place, [changes[i] for i in indexes]), strict=True))

        await asyncio.gather(*(run(place, indexes) for place, indexes in places.items()))
        return [outcomes[index] for index in range(len(changes))]

    async def _run(self, place: tuple[str, int], changes: list[Change]) -> Sequence[Outcome | Exception]:
        try:
            outcomes = await transaction(self._mongo, lambda session: self._change(place, changes, session))
        except Exception as error:
            return [error] * len(changes)
        if any(isinstance(change, Delete) for change in changes):
            await self._sweep(*place)
        return outcomes

    async def _sweep(self, room_id: str, seq: int) -> None:
        """Reactions of a deleted message, of which there may be more than fit into a transaction.

        None can come any more, and none is shown: the message is deleted, whether this succeeds or not.
        """
        try:
            await self._reactions.drop_message(room_id, seq)
        except Exception as error:
            log.warning("reactions of a deleted message are left", reason=type(error).__name__)

    async def _change(
        self, place: tuple[str, int], changes: list[Change], session: Session
    ) -> Sequence[Outcome | Exception]:
        """Read, apply one after the other, write what is different."""
        found = await aggregate(
            self._messages, [{"$match": {"_id": message_key(*place)}}, {"$set": {"now": "$$NOW"}}], session
        )
        if not found:
            return [NotFound("there is no such message in this room")] * len(changes)
        (before,) = found
        now: datetime = before.pop("now")
        at = max(now, before["changedAt"] + timedelta(milliseconds=1)) if "changedAt" in before else now
        state = MessageState(dict(before))
        if any(isinstance(change, Pin | Delete) for change in changes):
            room = await self._rooms.find_one({"_id": place[0]}, {"pins": 1}, session=session)
            state.pins = None if room is None else room["pins"]
        if reacts := [change for change in changes if isinstance(change, React)]:
            user_ids = {change.user_id for change in reacts}
            emoji = {*before.get("reactions", ()), *(change.emoji for change in reacts)}
            state.reactions = await self._reactions.read(*place, user_ids, emoji, session)
        pins, reactions = state.pins, set(state.reactions)
        outcomes = [_outcome(state, change, at) for change in changes]
        if state.document != before:
            await self._write_message(before, state, session)
        if state.pins != pins:
            await self._rooms.update_one(
                {"_id": place[0]}, {"$set": {"pins": state.pins, "updatedAt": at}}, session=session
            )
        await self._reactions.write(*place, reactions, state.reactions, at, session)
        # An edit is told with the whole message; read here, so that nothing is waited for between commit and event.
        if any(isinstance(change, Edit) for change in changes):
            thread = (await self._threads.read({place[0]: {place[1]}}, session)).get(place)
            return [_with_thread(outcome, thread) for outcome in outcomes]
        return outcomes

    async def _write_message(self, before: Document, state: MessageState, session: Session) -> None:
        document = state.document
        changed = {name: value for name, value in document.items() if name not in before or before[name] != value}
        update: Document = {"$set": changed} if changed else {}
        if gone := before.keys() - document.keys():
            update["$unset"] = dict.fromkeys(gone, "")
        await self._messages.update_one({"_id": document["_id"]}, update, session=session)
        room_id, seq = document["roomId"], document["seq"]
        if state.replaced:
            first = document["edits"] - len(state.replaced)
            await self._edits.insert_many(
                [
                    {"_id": _edit_key(room_id, seq, number), "roomId": room_id, "text": text, "at": at}
                    for number, (text, at) in enumerate(state.replaced, start=first)
                ],
                session=session,
            )
        if document.get("deletedAt") is not None:
            await self._edits.delete_many(beside_message(room_id, seq), session=session)
        elif state.replaced and document["edits"] > EDITS_KEPT:
            oldest = _edit_key(room_id, seq, document["edits"] - EDITS_KEPT)
            await self._edits.delete_many({"_id": {"$gte": _edit_key(room_id, seq, 0), "$lt": oldest}}, session=session)


def _outcome(state: MessageState, change: Change, at: datetime) -> Outcome | ParleyError:
    pins = state.pins
    try:
        changed = apply(state, change, at)
    except ParleyError as error:
        return error
    return Outcome(
        message=as_message(state.document),
        changed=changed,
        at=at,
        my_reactions=state.emoji_of(change.user_id) if isinstance(change, React) else [],
        pins=list(state.pins or ()),
        pins_changed=state.pins != pins,
    )


def _with_thread(outcome: Outcome | ParleyError, thread: ThreadSummary | None) -> Outcome | ParleyError:
    if isinstance(outcome, ParleyError):
        return outcome
    return outcome._replace(message=outcome.message.model_copy(update={"thread": thread}))


def _edit_key(room_id: str, seq: int, number: int) -> str:
    return beside_key(room_id, seq, f"{number:08x}")
