"""A websocket client that writes and reads RFC 6455 frames itself, right and wrong ones."""

import asyncio
import json
from typing import Any, Final, NamedTuple

from tests.conformance.connection import ANSWER_SECONDS, Connection

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
MASK: Final = b"\x9a\x07\xc5\x5e"


class Frame(NamedTuple):
    """One frame as the server sent it."""

    fin: bool
    rsv: int
    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int | None:
        """The code of a CLOSE frame that has one."""
        return int.from_bytes(self.payload[:2], "big") if len(self.payload) >= 2 else None


def frame(
    payload: str | bytes,
    opcode: int | None = None,
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_bytes: int | None = None,
) -> bytes:
    """A client's frame. `length_bytes` (0, 2 or 8) forces a form of the length; without `mask` it goes unmasked."""
    if opcode is None:
        opcode = TEXT if isinstance(payload, str) else BINARY
    data = payload.encode() if isinstance(payload, str) else payload
    if length_bytes is None:
        length_bytes = 0 if len(data) < 126 else 2 if len(data) < 65_536 else 8
    masked = 0x80 if mask is not None else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if length_bytes == 0:
        head += bytes([masked | len(data)])
    else:
        head += bytes([masked | (126 if length_bytes == 2 else 127)]) + len(data).to_bytes(length_bytes, "big")
    return head + data if mask is None else head + mask + xor(data, mask)


def xor(data: bytes, mask: bytes) -> bytes:
    """The data masked, or unmasked, with these four bytes."""
    whole = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(data), "big")


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    """A client's CLOSE frame."""
    return frame(b"" if code is None else code.to_bytes(2, "big") + reason, CLOSE)


class WebSocket:
    """A connection past its upgrade. Engine.IO pings are answered by `packet()` and not shown."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._ack_number = 1_000_000

    async def send(self, *packets: str | bytes) -> None:
        """Send each packet as one whole frame."""
        for packet in packets:
            self.write(frame(packet))
        await self.connection.flush()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.write(data)

    async def frame(self, seconds: float = ANSWER_SECONDS) -> Frame:
        """The next frame. Raises: asyncio.IncompleteReadError when the connection ends instead."""
        reader = self.connection.reader
        async with asyncio.timeout(seconds):
            first, second = await reader.readexactly(2)
            assert not second & 0x80, "a server must not mask"
            length = second & 0x7F
            if length == 126:
                length = int.from_bytes(await reader.readexactly(2), "big")
                assert length >= 126, "the length is not in its shortest form"
            elif length == 127:
                length = int.from_bytes(await reader.readexactly(8), "big")
                assert length >= 65_536, "the length is not in its shortest form"
            payload = await reader.readexactly(length)
        return Frame(bool(first & 0x80), first >> 4 & 0x7, first & 0xF, payload)

    async def packet(self) -> str | bytes:
        """The next packet, text or binary."""
        while True:
            got = await self.frame()
            assert got.opcode in (TEXT, BINARY), f"no packet but {got}"
            assert got.fin
            assert got.rsv == 0
            if got.opcode == BINARY:
                return got.payload
            if got.payload != b"2":
                return got.payload.decode()
            await self.send("3")

    async def text(self) -> str:
        """The next packet, which must be text."""
        packet = await self.packet()
        assert isinstance(packet, str)
        return packet

    async def binary(self) -> bytes:
        """The next packet, which must be binary."""
        packet = await self.packet()
        assert isinstance(packet, bytes)
        return packet

    async def opened(self) -> dict[str, Any]:
        """Take the OPEN packet; returns what it says."""
        packet = await self.text()
        assert packet.startswith("0")
        told: dict[str, Any] = json.loads(packet[1:])
        return told

    async def connect(self, token: str) -> str:
        """CONNECT to the main namespace; returns the session's id once `session:ready` has come."""
        await self.send("40" + json.dumps({"token": token}))
        connected = await self.text()
        assert connected.startswith("40{"), connected
        assert (await self.text()).startswith('42["session:ready",')
        return str(json.loads(connected[2:])["sid"])

    async def ack(self, number: int) -> list[Any]:
        """The arguments of the ack with this number; other packets before it are passed over."""
        prefix = f"43{number}["
        while not (packet := await self.text()).startswith(prefix):
            pass
        arguments: list[Any] = json.loads(packet[len(prefix) - 1 :])
        return arguments

    async def is_served(self) -> bool:
        """Whether an event sent now is answered."""
        self._ack_number += 1
        await self.send(f'42{self._ack_number}["room:list"]')
        (answer,) = await self.ack(self._ack_number)
        return bool(answer["success"])

    async def farewell(self, seconds: float = ANSWER_SECONDS) -> tuple[list[str], int | None]:
        """All text packets until the server closes, and its close code, or None when it just ends the connection.

        The server's CLOSE is answered, as a client must.
        """
        packets: list[str] = []
        try:
            while (got := await self.frame(seconds)).opcode != CLOSE:
                if got.opcode == TEXT:
                    packets.append(got.payload.decode())
            self.write(frame(got.payload[:2], CLOSE))
        except (asyncio.IncompleteReadError, ConnectionError):
            return packets, None
        return packets, got.close_code

    async def close_code(self, seconds: float = ANSWER_SECONDS) -> int | None:
        """The code that the server closes with."""
        return (await self.farewell(seconds))[1]
