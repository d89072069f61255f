"""Whatever a client's stream of frames is made of, and however it is cut into segments, it is read as it was meant."""

import random

import pytest

from tests.conformance.websocket import BINARY, CONTINUATION, PING, PONG, TEXT, WebSocket, frame
from tests.conformance.wire import Wire

EVENTS = 30
SIZES = (0, 1, 30, 100, 125, 126, 127, 300, 5_000, 65_400, 65_536, 100_000)
ALPHABET = "aä€😀 {}[],:"


def message_frames(chance: random.Random, payload: bytes, opcode: int, pings: list[bytes]) -> bytes:
    """A message in one to five frames, with control frames here and there; the pings are added to `pings`."""
    cuts = sorted(chance.choices(range(len(payload) + 1), k=chance.choice((0, 0, 1, 4))))
    parts = [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    stream = b""
    for number, part in enumerate(parts):
        if chance.random() < 0.2:
            pings.append(b"%d" % len(pings))
            stream += frame(pings[-1], PING)
        if chance.random() < 0.1:
            stream += frame(chance.randbytes(chance.randrange(126)), PONG)
        last = number == len(parts) - 1
        stream += frame(part, CONTINUATION if number else opcode, fin=last, mask=chance.randbytes(4))
    return stream


def segments(chance: random.Random, stream: bytes) -> list[bytes]:
    """The stream in segments, some of a few bytes, some of many frames."""
    cut: list[bytes] = []
    while stream:
        size = chance.choice((1, 2, 3, 7, 60, 1_000, 30_000, 200_000))
        cut.append(stream[:size])
        stream = stream[size:]
    return cut


@pytest.mark.parametrize("seed", range(12))
async def test_any_stream(alone_wire: Wire, alone_websocket: WebSocket, seed: int) -> None:
    """Texts and attachments of many sizes come back whole and in order, and every ping is answered, in order, too."""
    chance = random.Random(seed)
    stream, pings, expected = b"", list[bytes](), list[bytes]()
    for number in range(EVENTS):
        size = chance.choice(SIZES)
        if chance.random() < 0.5:
            text = "".join(chance.choices(ALPHABET, k=size // 3))
            stream += message_frames(chance, f'42{number}["echo","{text}"]'.encode(), TEXT, pings)
            expected.append(f'43{number}["{text}"]'.encode())
        else:
            attachment = chance.randbytes(size)
            head = b'451-["back",{"_placeholder":true,"num":0}]'
            stream += message_frames(chance, head, TEXT, pings) + message_frames(chance, attachment, BINARY, pings)
            expected += [head, attachment]
    await alone_wire.write_in_pieces(alone_websocket.connection, *segments(chance, stream))
    answered: list[bytes] = []
    came: list[bytes] = []
    while len(came) < len(expected) or len(answered) < len(pings):
        got = await alone_websocket.frame()
        (answered if got.opcode == PONG else came).append(got.payload)
    assert answered == pings
    assert came == expected
