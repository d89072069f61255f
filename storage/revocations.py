"""Withdrawn tokens and blocked users: one document each, numbered in the order they were committed.

Whoever has read up to a number misses nothing by reading on from there, whatever the clocks say: the number is taken
in the same transaction that writes the document, and two of them never overlap, because both write the counter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from storage.batcher import Batcher
from storage.membership import Clock
from storage.mongo import Document, Mongo, Session, transaction

KEEP: Final = timedelta(days=400)
"""A revocation is forgotten when no token can be left that it hits. Their expiry is not known here; a token of a year,
the longest that issuers commonly sign, is over by then."""
KEEP_LIFTED: Final = timedelta(days=1)
"""How long a lifted block is kept for the nodes to read that it is; they look every second."""
COUNTER: Final = "revocations"


class RevocationKind(StrEnum):
    """What `subject` is: a token's `jti`, a user whose older tokens are void, a user who is shut out."""

    TOKEN = "token"  # noqa: S105 - no password
    USER = "user"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One withdrawal. `issued_before` belongs to those of a user's tokens, `lifted` to blocks."""

    number: int
    kind: RevocationKind
    subject: str
    issued_before: datetime | None
    lifted: bool


class RevocationStore:
    """All withdrawals. Raises: the driver's errors when the store is away, Unavailable when too many wait for it."""

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._mongo = mongo
        self._revocations = mongo["revocations"]
        self._clock = clock
        self._reads = Batcher(self._flush_reads)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._reads.close()

    async def revoke_token(self, token_id: str) -> None:
        """Withdraw the token with this `jti`. Idempotent."""
        await self._record(RevocationKind.TOKEN, token_id, {"expiresAt": self._clock() + KEEP})

    async def revoke_user(self, user_id: str, issued_before: datetime) -> None:
        """Withdraw a user's tokens that were issued before this time. Idempotent; an earlier time changes nothing."""
        # The latest time wins, also against one that is committed meanwhile.
        await self._record(
            RevocationKind.USER, user_id, {}, latest={"issuedBefore": issued_before, "expiresAt": issued_before + KEEP}
        )

    async def block_user(self, user_id: str) -> None:
        """Shut a user out until the block is lifted. Idempotent."""
        await self._record(RevocationKind.BLOCK, user_id, {"lifted": False, "expiresAt": None})

    async def lift_block(self, user_id: str) -> bool:
        """Let a user in again; False when there is no block."""
        change = {"lifted": True, "expiresAt": self._clock() + KEEP_LIFTED}
        return await self._record(RevocationKind.BLOCK, user_id, change, only_if={"lifted": False})

    async def changes(self, after: int, limit: int) -> list[Revocation]:
        """Withdrawals made or lifted after the one with this number, in the order they were committed."""
        cursor = self._revocations.find({"number": {"$gt": after}}).sort("number", 1).limit(limit)
        return [_as_revocation(document) for document in await cursor.to_list(None)]

    async def newest(self) -> int:
        """The number of the last change, 0 when there was none."""
        counter = await self._mongo["counters"].find_one({"_id": COUNTER})
        return 0 if counter is None else int(counter["value"])

    async def concerning(self, user_id: str, token_id: str | None) -> list[Revocation]:
        """Withdrawals of this user, or of the token with this `jti`."""
        keys = [_key(RevocationKind.USER, user_id), _key(RevocationKind.BLOCK, user_id)]
        if token_id is not None:
            keys.append(_key(RevocationKind.TOKEN, token_id))
        return await self._reads.submit(keys)

    async def _record(
        self,
        kind: RevocationKind,
        subject: str,
        change: Document,
        *,
        latest: Document | None = None,
        only_if: Document | None = None,
    ) -> bool:
        async def write(session: Session) -> bool:
            # The counter goes first: whoever waits for it has a later number than whoever holds it.
            counter = await self._mongo["counters"].find_one_and_update(
                {"_id": COUNTER}, {"$inc": {"value": 1}}, upsert=True, return_document=True, session=session
            )
            assert counter is not None  # upserted
            fields = {"kind": kind.value, "subject": subject, "number": counter["value"], **change}
            update: Document = {"$set": fields}
            if latest:
                update["$max"] = latest
            result = await self._revocations.update_one(
                {"_id": _key(kind, subject), **(only_if or {})}, update, upsert=only_if is None, session=session
            )
            return bool(result.matched_count or result.upserted_id is not None)

        return await transaction(self._mongo, write)

    async def _flush_reads(self, requests: list[list[str]]) -> Sequence[list[Revocation]]:
        wanted = {key for keys in requests for key in keys}
        documents = await self._revocations.find({"_id": {"$in": list(wanted)}}).to_list(None)
        found = {document["_id"]: _as_revocation(document) for document in documents}
        return [[found[key] for key in keys if key in found] for keys in requests]


def _key(kind: RevocationKind, subject: str) -> str:
    return f"{kind}:{subject}"


def _as_revocation(document: Document) -> Revocation:
    return Revocation(
        number=document["number"],
        kind=RevocationKind(document["kind"]),
        subject=document["subject"],
        issued_before=document.get("issuedBefore"),
        lifted=document.get("lifted", False),
    )
