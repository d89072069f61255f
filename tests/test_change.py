"""What becomes of a message by a change: against a simple model, and case by case."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Conflict, NotFound
from storage.change import PINS_MAX, REACTIONS_MAX, Change, Delete, Edit, MessageState, Pin, React, apply

SENT = datetime(2026, 1, 1, tzinfo=UTC)
ROOM, SEQ = "r", 7

USERS, EMOJI, TEXTS = st.sampled_from(["ann", "bob", "cyd"]), st.sampled_from(["👍", "🎉"]), st.sampled_from("xyz")
CHANGES = st.lists(
    st.one_of(
        st.builds(Edit, st.just(ROOM), st.just(SEQ), TEXTS),
        st.builds(React, st.just(ROOM), st.just(SEQ), USERS, EMOJI, st.booleans()),
        st.builds(Pin, st.just(ROOM), st.just(SEQ), st.booleans()),
        st.builds(Delete, st.just(ROOM), st.just(SEQ), USERS),
    ),
    max_size=30,
)


def state(**fields: object) -> MessageState:
    """A message as it was sent."""
    document = {
        "roomId": ROOM, "seq": SEQ, "text": "x", "replyTo": 3, "mentions": ["bob"], "metadata": {"a": 1},
        "createdAt": SENT, "digest": b"d", **fields,
    }  # fmt: skip
    return MessageState(document, pins=[1])


def minute(number: int) -> datetime:
    """A time after the message was sent."""
    return SENT + timedelta(minutes=number)


@given(CHANGES)
def test_changes_against_a_model(changes: list[Change]) -> None:
    """Texts, counts, pins and the edit history are those of plain sets and lists; nothing outlives a delete."""
    message = state()
    text, texts, deleted, pinned = "x", list[str](), False, False
    reactions: set[tuple[str, str]] = set()
    for number, change in enumerate(changes, start=1):
        before = dict(message.document)
        try:
            changed = apply(message, change, minute(number))
        except NotFound:
            assert deleted
            assert not isinstance(change, Delete)
            assert message.document == before
            continue
        match change:
            case Edit():
                expected = change.text != text
                texts += [text] if expected else []
                text = change.text
            case React():
                reaction = change.user_id, change.emoji
                expected = (reaction in reactions) is change.remove
                reactions = reactions - {reaction} if change.remove else reactions | {reaction}
            case Pin():
                expected, pinned = change.pinned is not pinned, change.pinned
            case Delete():
                expected, deleted, pinned = not deleted, True, False
                reactions, texts = set(), []
        assert changed is expected
        assert (message.document != before) is expected
        if expected and not isinstance(change, Pin):
            assert message.document["changedAt"] == minute(number)
    assert message.document.get("reactions", {}) == {
        emoji: count for emoji in ("👍", "🎉") if (count := sum(one == emoji for _, one in reactions))
    }
    assert message.reactions == reactions
    assert message.document["text"] == (None if deleted else text)
    assert [replaced for replaced, _ in message.replaced] == texts
    assert message.pins == ([1, SEQ] if pinned else [1])
    assert message.document["digest"] == b"d"


def test_an_edit_keeps_what_it_replaces() -> None:
    """Each replaced text is kept with the time from which it stood."""
    message = state()
    assert apply(message, Edit(ROOM, SEQ, "y"), minute(1))
    assert apply(message, Edit(ROOM, SEQ, "z"), minute(2))
    assert message.replaced == [("x", SENT), ("y", minute(1))]
    assert (message.document["edits"], message.document["editedAt"]) == (2, minute(2))


def test_a_deleted_message_keeps_its_place_alone() -> None:
    """Text, mentions, metadata, reactions, edits and the pin go; where it replied to is put aside."""
    message = state(reactions={"👍": 1}, editedAt=minute(1), edits=1, pinned=True)
    message.pins = [SEQ, 1]
    assert apply(message, Delete(ROOM, SEQ, "ann"), minute(2))
    assert message.document == {
        "roomId": ROOM, "seq": SEQ, "text": None, "replyTo": None, "formerReplyTo": 3, "mentions": [], "metadata": {},
        "createdAt": SENT, "digest": b"d", "deletedAt": minute(2), "deletedBy": "ann", "changedAt": minute(2),
    }  # fmt: skip
    assert message.pins == [1]
    assert not apply(message, Delete(ROOM, SEQ, "bob"), minute(3))
    assert not apply(message, Pin(ROOM, SEQ, False), minute(3))
    with pytest.raises(NotFound):
        apply(message, Pin(ROOM, SEQ, True), minute(3))


def test_there_is_room_for_so_many_emoji() -> None:
    """One more kind is refused; those that are there still count."""
    message = state(reactions=dict.fromkeys(map(str, range(REACTIONS_MAX)), 1))
    with pytest.raises(Conflict):
        apply(message, React(ROOM, SEQ, "ann", "👍", False), minute(1))
    assert apply(message, React(ROOM, SEQ, "ann", "0", False), minute(1))
    assert message.document["reactions"]["0"] == 2


def test_there_is_room_for_so_many_pins() -> None:
    """One more is refused; what is pinned already is no change."""
    message = state()
    message.pins = list(range(100, 100 + PINS_MAX))
    with pytest.raises(Conflict):
        apply(message, Pin(ROOM, SEQ, True), minute(1))
    message.pins[0] = SEQ
    assert not apply(message, Pin(ROOM, SEQ, True), minute(1))
    with pytest.raises(NotFound):
        apply(MessageState(message.document), Pin(ROOM, SEQ, True), minute(1))
