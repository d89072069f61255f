"""When users were last seen, in MongoDB: together, at most once a minute each, never backwards."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from storage.last_seen import USER_SECONDS, LastSeenStore
from storage.mongo import Mongo
from storage.users import Profile, UserStore

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def stored(mongo: Mongo, user_id: str) -> datetime | None:
    """What MongoDB has."""
    document = await mongo["users"].find_one({"_id": user_id})
    return None if document is None else document.get("lastSeen")


async def until_stored(mongo: Mongo, user_id: str, moment: datetime) -> None:
    """Wait until MongoDB has this."""
    end = time.monotonic() + 10
    while (found := await stored(mongo, user_id)) != moment:
        assert time.monotonic() < end, f"{found} is stored"
        await asyncio.sleep(0.02)


async def test_times_are_written_late_and_read_at_once(mongo: Mongo) -> None:
    """Once a minute a user, at the end whatever is left; what is not written yet is read all the same."""
    now = 1_000.0
    store = LastSeenStore(mongo, lambda: now)
    store.start()
    assert await store.read(["alice", "bob"]) == {}
    store.note({"alice": NOON})
    assert await store.read(["alice", "bob"]) == {"alice": NOON}
    await until_stored(mongo, "alice", NOON)
    later = NOON + timedelta(seconds=30)
    store.note({"alice": later, "bob": NOON})
    await until_stored(mongo, "bob", NOON)
    assert await stored(mongo, "alice") == NOON
    assert await store.read(["alice"]) == {"alice": later}
    now += USER_SECONDS
    await until_stored(mongo, "alice", later)
    store.note({"alice": NOON, "carol": NOON})
    await store.close()
    assert await stored(mongo, "carol") == NOON
    assert await stored(mongo, "alice") == later


async def test_profiles_and_times_share_a_document(mongo: Mongo) -> None:
    """Neither disturbs the other, whichever comes first."""
    store, users = LastSeenStore(mongo, lambda: 0.0), UserStore(mongo, lambda: NOON)
    store.note({"alice": NOON, "bob": NOON})
    await users.upsert("bob", Profile("Bob", None))
    await store.close()
    await users.upsert("alice", Profile("Alice", None))
    assert await users.profiles(["alice", "bob"]) == {"alice": Profile("Alice", None), "bob": Profile("Bob", None)}
    assert await stored(mongo, "alice") == await stored(mongo, "bob") == NOON
    await users.close()
