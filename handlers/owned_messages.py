"""Messages as acks carry them: with their threads, and with the reader's own reactions."""

import asyncio
from collections.abc import Sequence

from handlers.pages import PAGE_MAX_BYTES
from handlers.services import Services
from protocol.resources import Message, OwnedMessage

THREAD_BYTES = 100
"""The most that a thread's summary weighs in JSON."""


async def owned(user_id: str, messages: Sequence[Message], services: Services) -> list[OwnedMessage]:
    """These messages as this user sees them, in two reads at most however many they are."""
    threads, mine = await asyncio.gather(
        services.threads.summaries(messages), services.reactions.of_user(user_id, messages)
    )
    return [
        OwnedMessage.model_construct(
            **{
                **message.__dict__,
                "thread": threads.get((message.room_id, message.seq)),
                "my_reactions": mine.get((message.room_id, message.seq), []),
            }
        )
        for message in messages
    ]


def weight(message: Message) -> int:
    """The most bytes that an owned message takes in a reply."""
    mine = sum(len(emoji.encode()) + 3 for emoji in message.reactions)
    return len(message.wire_json()) + mine + THREAD_BYTES


def fitting_messages(messages: Sequence[Message], *, from_end: bool, budget: int = PAGE_MAX_BYTES) -> list[Message]:
    """As many messages as a reply can carry, from the end that the client asked at."""
    kept: list[Message] = []
    for message in reversed(messages) if from_end else messages:
        budget -= weight(message)
        if budget < 0:
            break
        kept.append(message)
    return kept[::-1] if from_end else kept
