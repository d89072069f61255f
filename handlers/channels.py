"""The directory of channels, which everyone sees (wire contract, section 3)."""

import asyncio

from auth.caller import Caller
from handlers.pages import decode_cursor, encode_cursor, fitting
from handlers.services import Services
from protocol.commands import ListChannels
from protocol.replies import Channel, ChannelsPage
from storage.rooms import sort_title


async def list_channels(caller: Caller, command: ListChannels, services: Services) -> ChannelsPage:
    """Channels by title, those whose title contains `query` if given. Raises: ValidationFailed for a bad cursor."""
    after = decode_cursor(command.cursor, str)
    records = await services.rooms.channels(command.query, after, command.limit + 1)
    shown = records[: command.limit]
    joined, counts = await asyncio.gather(
        services.members.rooms_joined(caller.user_id, [record.id for record in shown]),
        asyncio.gather(*(services.members.count(record.id) for record in shown)),
    )
    page = fitting(
        [
            Channel(room_id=record.id, title=record.title, member_count=count, joined=record.id in joined)
            for record, count in zip(shown, counts, strict=True)
        ]
    )
    more = len(page) < len(records)
    return ChannelsPage(
        rooms=page, next_cursor=encode_cursor(sort_title(page[-1].title), page[-1].room_id) if more else None
    )
