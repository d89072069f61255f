"""Offsets: the place of an event in what its origin node has said, as clients keep it and bring it back.

    <milliseconds, base 36>.<node id>.<number, base 36>

A node numbers its events upwards from its start, so that of one node's events it is exact which came before an offset;
of other nodes' the milliseconds, on a clock that all nodes share, say about when.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = tuple((first + second).encode() for first in _DIGITS for second in _DIGITS)
"""The two last digits of a number; those before them change rarely, and are kept ready."""
_MAX_LENGTH: Final = 64
"""Of an offset that a client brings; ours have about 30."""


class Offset(NamedTuple):
    """When it was made, by which node, and which one of the node's it is."""

    ms: int
    node: str
    number: int


def parse_offset(text: object) -> Offset | None:
    """Read what a client has brought; None for what is no offset."""
    if not isinstance(text, str) or len(text) > _MAX_LENGTH or not text.isascii():
        return None
    ms, _, rest = text.partition(".")
    node, _, number = rest.partition(".")
    if not (ms.isalnum() and node.isalnum() and number.isalnum()):
        return None
    return Offset(int(ms, 36), node, int(number, 36))


def stamped_ms(offset: bytes) -> int:
    """When an offset of a node's was made."""
    return int(offset[: offset.index(b".")], 36)


def base36(number: int) -> bytes:
    """A number that is not negative."""
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits.encode()


class Stamps:
    """Makes one node's offsets, in order; the time is looked at once a loop tick."""

    def __init__(self, node_id: str, now_ms: Callable[[], int]) -> None:
        self._node_id = node_id.encode()
        self._now_ms = now_ms
        self._number = 0
        self._start = b""

    def make(self) -> bytes:
        """The next offset."""
        high, low = divmod(self._number, len(_PAIRS))
        self._number += 1
        if not self._start or not low:
            if not self._start:
                asyncio.get_running_loop().call_soon(self._forget)
            self._start = b"%b.%b.%b" % (base36(self._now_ms()), self._node_id, base36(high))
        return self._start + _PAIRS[low]

    def _forget(self) -> None:
        self._start = b""
