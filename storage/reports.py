"""Messages that members have reported, with the text as it stood, for those who decide what to do about them."""

from storage.membership import Clock
from storage.mongo import DuplicateKeyError, Mongo
from storage.room import KEY_SEPARATOR


class ReportStore:
    """One document a reporter and message. Raises: the driver's errors when the store is away."""

    def __init__(self, mongo: Mongo, clock: Clock) -> None:
        self._reports = mongo["reports"]
        self._clock = clock

    async def add(
        self, reporter_id: str, *, room_id: str, seq: int, sender_id: str, text: str | None, reason: str
    ) -> bool:
        """Keep a report; False when this person has reported this message before, and then the first one stands."""
        document = {
            "_id": KEY_SEPARATOR.join((room_id, str(seq), reporter_id)),
            "roomId": room_id,
            "seq": seq,
            "reporterId": reporter_id,
            "senderId": sender_id,
            "text": text,
            "reason": reason,
            "createdAt": self._clock(),
        }
        try:
            await self._reports.insert_one(document)
        except DuplicateKeyError:
            return False
        return True
