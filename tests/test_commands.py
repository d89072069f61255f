"""The payload models of every event: what they take is what the contract allows, whatever JSON comes."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from handlers.routes import ROUTES
from protocol import commands
from protocol.types import MAX_SAFE_INTEGER, METADATA_MAX_BYTES
from protocol.wire import Inbound

MODELS = sorted({route.command for route in ROUTES.values()}, key=lambda model: model.__name__)
FIELDS = sorted({str(field.alias) for model in MODELS for field in model.model_fields.values()})

numbers = st.integers() | st.floats(allow_nan=False)
strings = st.text() | st.text(st.characters(categories=["Cs", "Cc", "Nd"]), max_size=4)
texts = strings | st.sampled_from(["direct", "group", "owner", "@room", "alice", "2026-01-31T12:00:00Z", "A" * 22])
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
payloads = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)
likely = {
    "roomId": st.text("aA1_-", min_size=1, max_size=3),
    "userId": st.text("aA1_.:@-", min_size=1, max_size=3),
    "kind": st.sampled_from(["group", "channel", "direct", "other"]),
    "role": st.sampled_from(["owner", "admin", "member", "other"]),
    "limit": st.integers(0, 501),
    "text": strings,
    "title": strings,
    "metadata": st.dictionaries(texts, values, max_size=2),
    "userIds": st.lists(st.text("ab@", max_size=2), max_size=3),
    "memberIds": st.lists(st.text("ab@", max_size=2), max_size=3),
    "mentions": st.lists(st.sampled_from(["@room", "a", "@a", ""]), max_size=2),
    "rooms": st.dictionaries(st.text("a-.", max_size=2), numbers, max_size=2),
    "until": st.none() | st.just("2026-01-31T12:00:00Z"),
    "before": numbers,
    "clientId": strings,
}
"""Values that come near what a field takes, so that many payloads are taken."""
sound_keys = st.from_regex(r"[a-zäß😀_-][a-z0-9$]{0,8}", fullmatch=True)
safe_numbers = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | st.floats(-1e15, 1e15)
sound_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
sound_values = st.recursive(
    st.none() | st.booleans() | safe_numbers | sound_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(sound_keys, inner, max_size=3),
    max_leaves=8,
)


def strings_in(value: Any) -> list[str]:
    """All strings of a JSON value, keys included."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings_in(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return [value] if isinstance(value, str) else []


def numbers_in(value: Any) -> list[float]:
    """All numbers of a JSON value."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [number for item in inner for number in numbers_in(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_taken_is_storable_and_unchanged(model: type[Inbound], data: st.DataObject) -> None:
    """A payload is refused by a ValidationError, or taken as it is: no field bent, dropped or added."""
    aliases = {str(field.alias): field.is_required() for field in model.model_fields.values()}
    near = st.fixed_dictionaries(
        {name: likely.get(name, values) for name, is_required in aliases.items() if is_required},
        optional={name: likely.get(name, values) for name, is_required in aliases.items() if not is_required},
    )
    payload = data.draw(near | payloads)
    try:
        command = model.model_validate(payload)
    except ValidationError:
        return
    fields = model.model_fields
    assert {str(fields[name].alias) for name in command.model_fields_set} == set(payload)
    for name in command.model_fields_set - {"until"}:
        assert json.loads(json.dumps(getattr(command, name))) == payload[str(fields[name].alias)]
    assert not any(re.search("[\0\ud800-\udfff]", text) for text in strings_in(payload))
    assert all(abs(number) <= MAX_SAFE_INTEGER for number in numbers_in(payload))


@given(metadata=st.dictionaries(sound_keys, sound_values, max_size=4))
@settings(max_examples=100, deadline=None)
def test_sound_metadata_passes_unchanged(metadata: dict[str, Any]) -> None:
    """Any JSON within the bounds is taken and kept as it was sent."""
    payload = {"roomId": "A" * 22, "text": "hello", "metadata": metadata}
    small = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) <= METADATA_MAX_BYTES // 2
    if small:
        assert commands.SendMessage.model_validate(payload).metadata == metadata


@given(metadata=st.dictionaries(sound_keys, sound_values, min_size=1, max_size=4), data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_key_that_a_store_would_read_is_refused_at_any_depth(metadata: dict[str, Any], data: st.DataObject) -> None:
    """A key that starts with $, has a dot, or is empty makes the whole of the metadata unfit."""
    bad = data.draw(st.sampled_from(["$ne", "$", "a.b", ".", "", "a\0", "\ud800"]))
    depth = data.draw(st.integers(0, 5))
    value: Any = {bad: 1}
    for _ in range(depth):
        value = data.draw(st.sampled_from([[value], {"a": value}]))
    for model, payload in (
        (commands.SendMessage, {"roomId": "A", "text": "hello"}),
        (commands.CreateRoom, {"kind": "group"}),
        (commands.UpdateRoom, {"roomId": "A"}),
    ):
        with pytest.raises(ValidationError) as refusal:
            model.model_validate({**payload, "metadata": {**metadata, "z": value} if depth else {**metadata, bad: 1}})
        assert [error["loc"] for error in refusal.value.errors(include_url=False)] == [("metadata",)]


@given(text=st.text(min_size=1))
@settings(max_examples=100, deadline=None)
def test_text_is_kept_to_the_code_point(text: str) -> None:
    """Text is neither trimmed nor normalised."""
    if not re.search("[\0\ud800-\udfff]", text):
        assert commands.SendMessage.model_validate({"roomId": "A", "text": text}).text == text


@given(
    year=st.integers(1, 9999), month=st.integers(1, 12), day=st.integers(1, 28), hour=st.integers(0, 23),
    fraction=st.from_regex(r"(\.\d{1,6})?", fullmatch=True),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_times_are_utc(year: int, month: int, day: int, hour: int, fraction: str) -> None:
    """Every ISO 8601 time in UTC is taken for the moment that it names."""
    if not fraction.isascii():
        return
    until = f"{year:04}-{month:02}-{day:02}T{hour:02}:30:00{fraction}Z"
    moment = commands.MuteRoom.model_validate({"roomId": "A", "until": until}).until
    assert moment is not None
    assert (moment.utcoffset().total_seconds(), moment.year, moment.hour) == (0, year, hour)  # type: ignore[union-attr]
