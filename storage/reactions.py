"""Who reacted with what: one document a user and emoji, beside the message, which holds the counts.

The `_id` is the message's key, the emoji and the user: it makes a user count once, keeps a message's reactions beside
each other, and is known to who asks for their own.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from protocol.resources import Message
from storage.batcher import Batcher
from storage.beside import beside_key, beside_message, beside_room
from storage.change import Reaction
from storage.mongo import Document, Mongo, Session

KEYS_PER_FIND: Final = 10_000
"""Keeps a query far below the 16 MB of a document: a key has 160 bytes at most."""

Place = tuple[str, int]
"""A room and a seq."""


class ReactionStore:
    """All reactions. They are written in the transactions that change the counts, by `ChangeStore` alone.

    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._reactions = mongo["reactions"]
        self._reads = Batcher(self._flush_reads)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._reads.close()

    async def of_user(self, user_id: str, messages: Sequence[Message]) -> dict[Place, list[str]]:
        """A user's emoji on those of these messages that have any; what callers ask for at once is read together."""
        keys = {
            reaction_key(message.room_id, message.seq, user_id, emoji): (message.room_id, message.seq, emoji)
            for message in messages
            for emoji in message.reactions
        }
        if not keys:
            return {}
        found = await self._reads.submit(list(keys))
        mine: dict[Place, list[str]] = {}
        for key, (room_id, seq, emoji) in keys.items():
            if key in found:
                mine.setdefault((room_id, seq), []).append(emoji)
        return mine

    async def _flush_reads(self, requests: list[list[str]]) -> list[set[str]]:
        wanted = list({key for keys in requests for key in keys})
        found: set[str] = set()
        for start in range(0, len(wanted), KEYS_PER_FIND):
            cursor = self._reactions.find({"_id": {"$in": wanted[start : start + KEYS_PER_FIND]}}, {"_id": 1})
            found.update(document["_id"] for document in await cursor.to_list(None))
        return [found.intersection(keys) for keys in requests]

    # --- on behalf of one change ----------------------------------------------------------------------------------

    async def read(
        self, room_id: str, seq: int, user_ids: Iterable[str], emoji: Iterable[str], session: Session
    ) -> set[Reaction]:
        """Which of these users have reacted to a message with which of these emoji."""
        emoji = list(emoji)
        wanted = {reaction_key(room_id, seq, user, one): (user, one) for user in user_ids for one in emoji}
        cursor = self._reactions.find({"_id": {"$in": list(wanted)}}, {"_id": 1}, session=session)
        return {wanted[document["_id"]] for document in await cursor.to_list(None)}

    async def write(
        self, room_id: str, seq: int, before: set[Reaction], after: set[Reaction], at: datetime, session: Session
    ) -> None:
        """Make of the one set the other."""
        if gone := before - after:
            await self._reactions.delete_many(
                {"_id": {"$in": [reaction_key(room_id, seq, *reaction) for reaction in gone]}}, session=session
            )
        if new := after - before:
            documents: list[Document] = [
                {
                    "_id": reaction_key(room_id, seq, user_id, emoji),
                    "roomId": room_id,
                    "userId": user_id,
                    "emoji": emoji,
                    "at": at,
                }
                for user_id, emoji in new
            ]
            await self._reactions.insert_many(documents, session=session)

    async def drop_message(self, room_id: str, seq: int) -> None:
        """Delete all reactions to a message."""
        await self._reactions.delete_many(beside_message(room_id, seq))

    async def drop_room(self, room_id: str) -> None:
        """Delete all reactions in a room."""
        await self._reactions.delete_many(beside_room(room_id))


def reaction_key(room_id: str, seq: int, user_id: str, emoji: str) -> str:
    """The `_id` of a reaction; unambiguous, for no emoji has a colon."""
    return beside_key(room_id, seq, f"{emoji}:{user_id}")
