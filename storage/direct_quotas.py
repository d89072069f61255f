"""How many direct rooms each user has lately begun with strangers: whom and when, in a window that slides."""

from datetime import timedelta

from storage.membership import Clock
from storage.mongo import DuplicateKeyError, Mongo

STRANGERS_PER_DAY = 20
"""Enough for anyone who looks for people, too few for who sends everyone the same."""
DAY = timedelta(days=1)


class DirectQuotas:
    """One document a user, written only if nobody else wrote since: the limit holds on any number of nodes.

    Raises: the driver's errors when the store is away.
    """

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._quotas = mongo["direct_quotas"]
        self._clock = clock

    async def take(self, user_id: str, stranger_id: str) -> timedelta | None:
        """Count a direct room to be begun; None when it may be, else how long until the next one may.

        The same stranger again within the day counts once, so that trying again after a failure is free.
        """
        while True:
            now = self._clock()
            document = await self._quotas.find_one({"_id": user_id}) or {"version": 0, "begun": []}
            begun = [entry for entry in document["begun"] if entry["at"] > now - DAY]
            if any(entry["with"] == stranger_id for entry in begun):
                return None
            if len(begun) >= STRANGERS_PER_DAY:
                wait: timedelta = begun[0]["at"] + DAY - now
                return wait
            begun.append({"with": stranger_id, "at": now})
            version: int = document["version"]
            change = {"$set": {"begun": begun, "lastAt": now, "version": version + 1}}
            try:
                written = await self._quotas.update_one(
                    {"_id": user_id, "version": version}, change, upsert=not version
                )
            except DuplicateKeyError:
                continue
            if written.matched_count or written.upserted_id is not None:
                return None
