"""Catching up: what a client missed, new messages and changes of those it has (wire contract, section 4)."""

import asyncio
from collections.abc import Iterable
from typing import Final

from auth.caller import Caller
from handlers.owned_messages import fitting_messages, owned, weight
from handlers.pages import PAGE_MAX_BYTES
from handlers.services import Services
from handlers.sync_tokens import SyncToken, make_sync_token, read_sync_token
from protocol.commands import SyncMessages
from protocol.replies import RoomGone, RoomSync, SyncReply
from protocol.resources import Message, OwnedMessage
from storage.change_feed import Changed

SYNC_CONCURRENCY: Final = 8
CHANGED_MAX: Final = 500
"""Changed messages in one reply, over all rooms; the rest follows by the reply's token."""


async def sync_messages(caller: Caller, command: SyncMessages, services: Services) -> SyncReply:
    """What a client missed in each of its rooms; rooms that do not fit into the reply say `hasMore`.

    With a token also which of the messages it has were changed since; of those that changed meanwhile, or within the
    last minute before the token, some may be told again. As long as not all are told, every room says `hasMore`.
    Raises: ValidationFailed for a sync token that is none.
    """
    token = None if command.sync_token is None else read_sync_token(command.sync_token)
    now, joined = await asyncio.gather(
        services.feed.now(), services.members.rooms_joined(caller.user_id, list(command.rooms))
    )
    existing = await services.rooms.get_many(joined)
    tails = await services.log.tails(list(existing))
    # A seq beyond the room's last is of another life of this database: the client starts anew there.
    seen = {room_id: seq for room_id, seq in command.rooms.items() if room_id in existing and seq <= tails[room_id]}
    pages, changes = await asyncio.gather(
        _missed(seen, tails, command.limit, services),
        _changed(token, seen, services),
    )
    budget = PAGE_MAX_BYTES
    missed: dict[str, list[Message]] = {}
    for room_id, page in pages.items():
        missed[room_id] = fitting_messages(page, from_end=False, budget=budget)
        budget -= sum(map(weight, missed[room_id]))
    told = fitting_messages([change.message for change in changes[:CHANGED_MAX]], from_end=False, budget=budget)
    all_told = len(told) == len(changes)

    messages = [message for page in missed.values() for message in page]
    shown = await owned(caller.user_id, [*messages, *told], services)
    new, changed = _by_room(shown[: len(messages)]), _by_room(shown[len(messages) :])
    rooms: dict[str, RoomSync | RoomGone] = {}
    for room_id, last_seen in command.rooms.items():
        if room_id not in existing:
            rooms[room_id] = RoomGone()
            continue
        reached = new[room_id][-1].seq if room_id in new else last_seen
        rooms[room_id] = RoomSync(
            messages=new.get(room_id, []),
            changed=changed.get(room_id, []),
            last_seq=tails[room_id],
            has_more=reached < tails[room_id] or (not all_told and room_id in seen),
            reset=room_id not in seen,
        )
    if token is None or all_told:
        # A walk of several replies ends at the moment it began: what came behind it meanwhile is told by the next.
        token = SyncToken(token.moment if token is not None and token.position is not None else now)
    elif told:
        began = token.moment if token.position is not None else now
        token = SyncToken(began, changes[len(told) - 1].position)
    return SyncReply(rooms=rooms, sync_token=make_sync_token(token))


async def _missed(
    seen: dict[str, int], tails: dict[str, int], limit: int, services: Services
) -> dict[str, list[Message]]:
    slots = asyncio.Semaphore(SYNC_CONCURRENCY)

    async def read(room_id: str) -> list[Message]:
        async with slots:
            return await services.log.between(room_id, seen[room_id], tails[room_id] + 1, limit)

    behind = [room_id for room_id, seq in seen.items() if seq < tails[room_id]]
    return dict(zip(behind, await asyncio.gather(*map(read, behind)), strict=True))


async def _changed(token: SyncToken | None, seen: dict[str, int], services: Services) -> list[Changed]:
    """One more than a reply takes, so that it shows whether there are more."""
    if token is None:
        return []
    cached = {room_id: seq for room_id, seq in seen.items() if seq > 0}
    return await services.feed.after(token.start, cached, CHANGED_MAX + 1)


def _by_room(messages: Iterable[OwnedMessage]) -> dict[str, list[OwnedMessage]]:
    rooms: dict[str, list[OwnedMessage]] = {}
    for message in messages:
        rooms.setdefault(message.room_id, []).append(message)
    return rooms
