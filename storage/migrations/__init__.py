"""Numbered, idempotent changes of the database, each applied once, in order, under a lock that nodes share.

The `migrations` collection holds one document a finished migration, and the lock: a lease, renewed while its owner
works and taken over when that owner has died. Migrations are idempotent, so a lease lost to a stall does no harm.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import uuid4

from storage.migrations import (
    m0001_rooms,
    m0002_messages,
    m0003_receipts,
    m0004_changes,
    m0005_notifications,
    m0006_sessions,
)
from storage.mongo import DuplicateKeyError, Mongo, timeout

MIGRATIONS: tuple[tuple[int, Callable[[Mongo], Awaitable[None]]], ...] = (
    (1, m0001_rooms.apply),
    (2, m0002_messages.apply),
    (3, m0003_receipts.apply),
    (4, m0004_changes.apply),
    (5, m0005_notifications.apply),
    (6, m0006_sessions.apply),
)
LEASE_SECONDS = 60.0
RENEWAL_SECONDS = 20.0
WAIT_SECONDS = LEASE_SECONDS + 5.0
"""Longer than a lease, so that a node that died over a migration does not keep the next from starting."""
POLL_SECONDS = 0.2
MIGRATION_SECONDS = 3_600.0
"""An index over a large collection takes its time, other than the operations that serve clients."""
LOCK = "lock"

Now = Callable[[], datetime]


class MigrationsBusy(Exception):
    """Another node has been migrating this database for longer than this one waits."""


async def migrate(mongo: Mongo, *, now: Now, wait_seconds: float = WAIT_SECONDS) -> list[int]:
    """Bring the database up to date and return the numbers of the migrations that this call applied.

    One read when there is nothing to do. Any number of nodes may call it at once: one works, the others wait until
    it is done. Raises: MigrationsBusy after `wait_seconds`; the driver's errors when the store is away.
    """
    if not await _pending(mongo):
        return []
    owner = uuid4().hex
    try:
        async with asyncio.timeout(wait_seconds):
            while not await _take_lease(mongo, owner, now):
                await asyncio.sleep(POLL_SECONDS)
                if not await _pending(mongo):
                    return []
    except TimeoutError:
        raise MigrationsBusy(
            f"another node has been migrating the database for over {wait_seconds:.0f} s; "
            "look at its log, and start this one again when it is done"
        ) from None
    applied = []
    async with _keep_lease(mongo, owner, now):
        for number, apply in await _pending(mongo):
            with timeout(MIGRATION_SECONDS):
                await apply(mongo)
            await mongo["migrations"].update_one({"_id": number}, {"$set": {"appliedAt": now()}}, upsert=True)
            applied.append(number)
    return applied


async def _pending(mongo: Mongo) -> list[tuple[int, Callable[[Mongo], Awaitable[None]]]]:
    done = {document["_id"] for document in await mongo["migrations"].find({}, {"_id": 1}).to_list(None)}
    return [(number, apply) for number, apply in MIGRATIONS if number not in done]


async def _take_lease(mongo: Mongo, owner: str, now: Now) -> bool:
    """Take the lock, or renew it; False while it is someone else's."""
    moment = now()
    try:
        await mongo["migrations"].update_one(
            {"_id": LOCK, "$or": [{"owner": owner}, {"expiresAt": {"$lt": moment}}]},
            {"$set": {"owner": owner, "expiresAt": moment + timedelta(seconds=LEASE_SECONDS)}},
            upsert=True,
        )
    except DuplicateKeyError:
        return False
    return True


@asynccontextmanager
async def _keep_lease(mongo: Mongo, owner: str, now: Now) -> AsyncIterator[None]:
    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            await _take_lease(mongo, owner, now)

    renewal = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
        await mongo["migrations"].delete_one({"_id": LOCK, "owner": owner})
