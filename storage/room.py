"""One room: the record, and the document it is kept as."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson

from protocol.types import RoomKind
from storage.mongo import Document

SORT_TITLE_CODE_POINTS = 64
"""Channels are ordered by this much of their title, so that a place in the order fits into a cursor."""
KEY_SEPARATOR = "\n"
"""Joins ids into one key: no user id contains it."""


@dataclass(frozen=True, slots=True)
class RoomRecord:
    """A room as stored; `updated_at` is the last change of settings. Only direct rooms have `pair` and `opened_by`."""

    id: str
    kind: RoomKind
    title: str | None
    metadata: dict[str, Any]
    created_by: str
    created_at: datetime
    updated_at: datetime
    external_id: str | None
    slow_mode_seconds: int
    pins: tuple[int, ...]
    pair: tuple[str, ...]
    opened_by: tuple[str, ...]
    ownerless: bool

    def peer_of(self, user_id: str) -> str | None:
        """The other person of a direct room; None in other kinds."""
        return next((other for other in self.pair if other != user_id), None)


@dataclass(frozen=True, slots=True)
class NewRoom:
    """A group or channel to be made, with its first members beside the creator, who becomes owner."""

    kind: RoomKind
    created_by: str
    member_ids: Sequence[str]
    title: str | None
    metadata: dict[str, Any]
    external_id: str | None
    client_id: str | None
    left_out: frozenset[str] = frozenset()
    """Those of `member_ids` who do not become members."""

    def digest(self) -> str:
        """SHA-256 of everything the creator asked for: what a repeated `client_id` must equal."""
        content = [self.kind, sorted(self.member_ids), self.title, self.metadata, self.external_id]
        return sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def sort_title(title: str | None) -> str:
    """The key that channels are listed by: letter case aside, and short."""
    return (title or "").casefold()[:SORT_TITLE_CODE_POINTS]


def as_record(document: Document) -> RoomRecord:
    """A room document as the rest of the server sees it."""
    return RoomRecord(
        id=document["_id"],
        kind=RoomKind(document["kind"]),
        title=document["title"],
        metadata=document["metadata"],
        created_by=document["createdBy"],
        created_at=document["createdAt"],
        updated_at=document["updatedAt"],
        external_id=document.get("externalId"),
        slow_mode_seconds=document["slowModeSeconds"],
        pins=tuple(document["pins"]),
        pair=tuple(document["pairKey"].split(KEY_SEPARATOR)) if "pairKey" in document else (),
        opened_by=tuple(document.get("openedBy", ())),
        ownerless=document.get("ownerless", False),
    )
