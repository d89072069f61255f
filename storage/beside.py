"""Keys of what is kept beside a message in collections of its own: those of one message, and of one room, are a range.

Strings, for MongoDB orders binary keys by their length first.
"""

from storage.mongo import Document


def beside_key(room_id: str, seq: int, rest: str) -> str:
    """An `_id` under a message; unambiguous, for a room id has no colon, and 14 digits hold every seq."""
    return f"{room_id}:{seq:014x}:{rest}"


def beside_message(room_id: str, seq: int) -> Document:
    """All that is kept under one message."""
    return {"_id": {"$gte": f"{room_id}:{seq:014x}:", "$lt": f"{room_id}:{seq:014x};"}}


def beside_room(room_id: str) -> Document:
    """All that is kept under the messages of one room."""
    return {"_id": {"$gte": f"{room_id}:", "$lt": f"{room_id};"}}
