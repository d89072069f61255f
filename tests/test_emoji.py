"""What is one emoji: its spelling, and the tables against those of Node's Unicode."""

import json
import subprocess
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.emoji import _PICTURES, _TAKES_SKIN_TONE, _TEXT_BY_DEFAULT, CODE_POINTS_MAX, is_emoji
from tests.conftest import require_node

GOOD = {
    "picture": "👍",
    "new picture": "\U0001fae9",
    "skin tone": "👍🏽",
    "skin tone of a text character": "☝🏿",
    "text by default": "❤️",
    "old text character": "©️",
    "joined": "👩‍💻",
    "joined with text characters": "🏳️‍🌈",
    "skin tone, then joined": "🕵🏽‍♂️",
    "family": "👨‍👩‍👧‍👦",
    "couple with two skin tones": "👩🏻‍❤️‍💋‍👨🏽",
    "flag": "🇺🇳",
    "flag of a region": "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "keycap": "#️⃣",
}
BAD = {
    "nothing": "",
    "letter": "a",
    "digit": "1",
    "word": ":thumbsup:",
    "two": "👍👍",
    "blank behind": "👍 ",
    "newline behind": "👍\n",
    "text by default without U+FE0F": "❤",
    "picture with U+FE0F": "👍️",
    "picture as text": "👍\ufe0e",
    "keycap without U+FE0F": "1⃣",
    "skin tone alone": "🏽",
    "skin tone where there is none": "🍕🏽",
    "half a flag": "🇺",
    "three regional indicators": "🇺🇳🇺",
    "joiner alone": "\u200d",
    "joiner behind": "👩‍",
    "joined five times": "‍".join("👩👩👩👩👩"),
    "selector alone": "\ufe0f",
    "unfinished region": "🏴\U000e0067",
    "operator": "$inc",
    "NUL": "\0",
    "very long": "👩‍" * 1_000 + "👩",
}
_NODE: Final = r"""
const is = property => c => new RegExp(`^\\p{${property}}$`, 'u').test(String.fromCodePoint(c));
const [emoji, picture, modifier, base, indicator] =
  ['Emoji', 'Emoji_Presentation', 'Emoji_Modifier', 'Emoji_Modifier_Base', 'Regional_Indicator'].map(is);
const all = [...Array(0x20000).keys()].filter(c => c > 0x7f && (c < 0xd800 || c > 0xdfff));
const pictures = all.filter(c => picture(c) && !modifier(c) && !indicator(c));
console.log(JSON.stringify([pictures, all.filter(c => emoji(c) && !picture(c)), all.filter(base)]));
"""


@pytest.mark.parametrize("emoji", GOOD.values(), ids=GOOD.keys())
def test_an_emoji_is_one(emoji: str) -> None:
    """Every kind of emoji sequence, fully qualified."""
    assert is_emoji(emoji)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_what_is_none(text: str) -> None:
    """Text, several emoji, parts of one, and other spellings of one."""
    assert not is_emoji(text)


PIECES = [*"👍❤🏽👩🇺1#🏴\u200d\ufe0f\u20e3", "\U000e0067", "\U000e007f"]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_no_two_spellings_of_one_emoji(text: str) -> None:
    """Whatever is taken is no longer taken with a variation selector less or more."""
    if is_emoji(text):
        assert len(text) <= CODE_POINTS_MAX
        assert not is_emoji(text + "\ufe0f")
        if "\ufe0f" in text:
            assert not is_emoji(text.replace("\ufe0f", "", 1))


def code_points(ranges: str) -> set[int]:
    """The code points of a table."""
    ends = [[int(end, 16) for end in part.split("-")] for part in ranges.split()]
    return {point for first, *last in ends for point in range(first, (last[0] if last else first) + 1)}


def test_the_tables_are_those_of_unicode() -> None:
    """Node's tables are in ours, and ours go beyond them only in the block of new emoji."""
    require_node()
    output = subprocess.run(["node", "-e", _NODE], capture_output=True, check=True, timeout=30).stdout
    pictures, text_by_default, takes_skin_tone = map(set, json.loads(output))
    assert pictures <= code_points(_PICTURES)
    assert all(0x1FA70 <= point <= 0x1FAFF for point in code_points(_PICTURES) - pictures)
    assert text_by_default == code_points(_TEXT_BY_DEFAULT)
    assert takes_skin_tone <= code_points(_TAKES_SKIN_TONE)
