"""Rooms: their settings, and the keys that make one of a kind (a direct room's pair, external and creation keys)."""

from collections.abc import Iterable
from re import escape
from secrets import token_urlsafe
from typing import Any

from protocol.errors import Conflict, NotFound
from protocol.types import Role, RoomKind
from storage.batcher import Batcher
from storage.membership import MEMBER_ROLES, Clock, new_member
from storage.mongo import Document, DuplicateKeyError, Mongo, Session, transaction
from storage.room import KEY_SEPARATOR, NewRoom, RoomRecord, as_record, sort_title

__all__ = ["NewRoom", "RoomRecord", "RoomStore", "sort_title"]

ROOM_ID_BYTES = 16
IDS_PER_FIND = 10_000
"""Keeps a query far below the 16 MB of a document, however many rooms the users of one batch have."""


class RoomStore:
    """All rooms. Reads of one loop tick are one query, and see everything acknowledged before them.

    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._mongo = mongo
        self._rooms = mongo["rooms"]
        self._members = mongo["members"]
        self._clock = clock
        self._reads = Batcher(self._flush_reads)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._reads.close()

    async def create(self, new: NewRoom) -> tuple[RoomRecord, bool]:
        """Make a group or channel with its members, all or nothing, and say whether this call made it.

        The same creator and `client_id` give the room of the first call.
        Raises: Conflict when that call asked for something else, or the external id is taken.
        """
        document = self._document(new.kind, new.created_by) | {
            "title": new.title,
            "sortTitle": sort_title(new.title),
            "metadata": new.metadata,
        }
        if new.external_id is not None:
            document["externalId"] = new.external_id
        if new.client_id is not None:
            document["creationKey"] = f"{new.created_by}{KEY_SEPARATOR}{new.client_id}"
            document["creationDigest"] = new.digest()
        joining = [user_id for user_id in new.member_ids if user_id not in new.left_out]
        roles = dict.fromkeys(joining, Role.MEMBER) | {new.created_by: Role.OWNER}
        try:
            await self._insert(document, roles)
        except DuplicateKeyError:
            return await self._first_of(document), False
        return as_record(document), True

    async def create_direct(self, creator: str, peer: str) -> tuple[RoomRecord, bool]:
        """The one room of two people, whoever of them asks and however often, also at the same instant.

        The flag says whether this call was the first by `creator`: for them it is open from now on, messages or not.
        """
        pair_key = _pair_key(creator, peer)
        existing = await self._open(pair_key, creator)
        if existing is not None:
            return existing
        document = self._document(RoomKind.DIRECT, creator) | {"pairKey": pair_key, "openedBy": [creator]}
        try:
            await self._insert(document, {creator: Role.MEMBER, peer: Role.MEMBER})
        except DuplicateKeyError:
            existing = await self._open(pair_key, creator)
            if existing is None:
                raise
            return existing
        return as_record(document), True

    async def has_direct(self, one: str, other: str) -> bool:
        """Whether these two have their direct room already."""
        return await self._rooms.find_one({"pairKey": _pair_key(one, other)}, {"_id": 1}) is not None

    async def get(self, room_id: str) -> RoomRecord | None:
        """One room."""
        return (await self.get_many([room_id])).get(room_id)

    async def get_many(self, room_ids: Iterable[str]) -> dict[str, RoomRecord]:
        """Those of these rooms that exist, by id."""
        return await self._reads.submit(list(room_ids))

    async def by_external_id(self, external_id: str) -> RoomRecord | None:
        """The room a backend service knows by this id."""
        document = await self._rooms.find_one({"externalId": external_id})
        return as_record(document) if document is not None else None

    async def channels(self, query: str | None, after: tuple[str, str] | None, limit: int) -> list[RoomRecord]:
        """Channels whose title contains `query`, by title, after the one with this `sort_title` and id."""
        wanted: Document = {"kind": RoomKind.CHANNEL.value}
        if query is not None:
            wanted["title"] = {"$regex": escape(query), "$options": "i"}
        if after is not None:
            title, room_id = after
            wanted["sortTitle"] = {"$gte": title}
            wanted["$or"] = [{"sortTitle": {"$gt": title}}, {"_id": {"$gt": room_id}}]
        cursor = self._rooms.find(wanted).sort([("sortTitle", 1), ("_id", 1)]).limit(limit)
        return [as_record(document) for document in await cursor.to_list(None)]

    async def update(
        self,
        room_id: str,
        *,
        title: str | None = None,
        metadata: dict[str, Any] | None = None,
        slow_mode_seconds: int | None = None,
    ) -> RoomRecord | None:
        """Change what is given and return the room; None when there is no such room."""
        change: Document = {"updatedAt": self._clock()}
        if title is not None:
            change |= {"title": title, "sortTitle": sort_title(title)}
        if metadata is not None:
            change["metadata"] = metadata
        if slow_mode_seconds is not None:
            change["slowModeSeconds"] = slow_mode_seconds
        document = await self._rooms.find_one_and_update({"_id": room_id}, {"$set": change}, return_document=True)
        return as_record(document) if document is not None else None

    async def delete(self, room_id: str) -> list[str]:
        """Delete a room with all memberships and bans, and return who was a member. Raises: NotFound.

        Whoever looks at the room afterwards finds none. A join at the same instant may outlive the transaction, so the
        members are swept once more after it.
        """

        async def drop(session: Session) -> list[str]:
            if (await self._rooms.delete_one({"_id": room_id}, session=session)).deleted_count == 0:
                raise NotFound
            members = self._members.find(
                {"roomId": room_id, "role": {"$in": MEMBER_ROLES}}, {"userId": 1}, session=session
            )
            user_ids = [document["userId"] for document in await members.to_list(None)]
            await self._members.delete_many({"roomId": room_id}, session=session)
            return user_ids

        user_ids = await transaction(self._mongo, drop)
        await self._members.delete_many({"roomId": room_id})
        return user_ids

    def _document(self, kind: RoomKind, created_by: str) -> Document:
        now = self._clock()
        return {
            "_id": token_urlsafe(ROOM_ID_BYTES),
            "kind": kind.value,
            "title": None,
            "metadata": {},
            "createdBy": created_by,
            "createdAt": now,
            "updatedAt": now,
            "slowModeSeconds": 0,
            "pins": [],
            "version": 0,
        }

    async def _insert(self, room: Document, roles: dict[str, Role]) -> None:
        members = [new_member(room["_id"], user_id, role, room["createdAt"]) for user_id, role in roles.items()]

        async def insert(session: Session) -> None:
            await self._rooms.insert_one(room, session=session)
            await self._members.insert_many(members, session=session)

        await transaction(self._mongo, insert)

    async def _first_of(self, document: Document) -> RoomRecord:
        first = None
        if "creationKey" in document:
            first = await self._rooms.find_one({"creationKey": document["creationKey"]})
        if first is None:
            raise Conflict("this externalId is taken")
        if first["creationDigest"] != document["creationDigest"]:
            raise Conflict("this clientId was used for another room")
        return as_record(first)

    async def _open(self, pair_key: str, user_id: str) -> tuple[RoomRecord, bool] | None:
        document = await self._rooms.find_one({"pairKey": pair_key})
        if document is None:
            return None
        newly_opened = user_id not in document["openedBy"]
        if newly_opened:
            await self._rooms.update_one({"_id": document["_id"]}, {"$addToSet": {"openedBy": user_id}})
            document["openedBy"].append(user_id)
        return as_record(document), newly_opened

    async def _flush_reads(self, requests: list[list[str]]) -> list[dict[str, RoomRecord]]:
        wanted = list({room_id for room_ids in requests for room_id in room_ids})
        found: dict[str, RoomRecord] = {}
        for start in range(0, len(wanted), IDS_PER_FIND):
            cursor = self._rooms.find({"_id": {"$in": wanted[start : start + IDS_PER_FIND]}})
            found.update((document["_id"], as_record(document)) for document in await cursor.to_list(None))
        return [{room_id: found[room_id] for room_id in room_ids if room_id in found} for room_ids in requests]


def _pair_key(one: str, other: str) -> str:
    return KEY_SEPARATOR.join(sorted((one, other)))
