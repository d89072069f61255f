"""A websocket that speaks Engine.IO and Socket.IO packets literally, for what no stock client would send."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.nodes import Node

PACKET_SECONDS = 10.0
ENDPOINT = "/socket.io/?EIO=4&transport="


class RawSocket:
    """One connection. `packets` is all that came, pings apart, which are answered unless `answers_pings` is off."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.packets: list[str] = []
        self.pings = 0
        self.answers_pings = True
        self._websocket = websocket
        self._numbers = itertools.count(1)
        self._arrived = asyncio.Event()
        self._ended = False
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._websocket:
            if message.data == "2":
                self.pings += 1
                if self.answers_pings:
                    await self._websocket.send_str("3")
            else:
                self.packets.append(message.data if isinstance(message.data, str) else repr(message.data))
            self._arrived.set()
        self._ended = True
        self._arrived.set()

    async def send(self, *packets: str) -> None:
        """Send packets as they are."""
        for packet in packets:
            await self._websocket.send_str(packet)

    async def send_together(self, *packets: str) -> None:
        """Send packets so that they arrive in one piece."""
        await asyncio.gather(*(self._websocket.send_str(packet) for packet in packets))

    async def send_bytes(self, attachment: bytes) -> None:
        """Send a binary frame."""
        await self._websocket.send_bytes(attachment)

    async def connect(self, token: Any) -> dict[str, Any]:
        """Send CONNECT and return `session:ready`."""
        await self.send("40" + json.dumps({"token": token}))
        await self.until(lambda: self.events("session:ready"))
        ready: dict[str, Any] = self.events("session:ready")[0]
        return ready

    async def push(self, event: str, *payloads: Any, literally: Mapping[str, str] | None = None) -> int:
        """Send an event with a callback, and return its number; strings named in `literally` become that JSON."""
        number = next(self._numbers)
        text = json.dumps([event, *payloads])
        for marker, literal in (literally or {}).items():
            text = text.replace(json.dumps(marker), literal)
        await self.send(f"42{number}{text}")
        return number

    async def call(self, event: str, *payloads: Any, literally: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Send an event and return its ack."""
        return await self.ack(await self.push(event, *payloads, literally=literally))

    async def ack(self, number: int) -> dict[str, Any]:
        """The one answer to an event sent before."""
        await self.until(lambda: self.acks(number))
        (arguments,) = self.acks(number)
        (answer,) = arguments
        assert isinstance(answer, dict)
        return answer

    def acks(self, number: int) -> list[list[Any]]:
        """The arguments of every ack with this number so far."""
        prefix = f"43{number}["
        return [json.loads(packet[len(prefix) - 1 :]) for packet in self.packets if packet.startswith(prefix)]

    def ack_numbers(self) -> list[int]:
        """The numbers of all acks so far, in the order they came."""
        return [int(packet[2 : packet.index("[")]) for packet in self.packets if packet.startswith("43")]

    def events(self, name: str) -> list[Any]:
        """The payloads of all events of this name so far."""
        prefix = f"42[{json.dumps(name)},"
        return [json.loads(packet[2:])[1] for packet in self.packets if packet.startswith(prefix)]

    async def until(self, condition: Any, seconds: float = PACKET_SECONDS) -> None:
        """Wait until this is true of what has come."""
        end = time.monotonic() + seconds
        while not condition():
            assert not self._ended, f"the connection closed ({self._websocket.close_code}); came: {self.packets[-5:]}"
            self._arrived.clear()
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    await self._arrived.wait()
            except TimeoutError:
                raise AssertionError(f"did not come in {seconds} s; came: {self.packets[-5:]}") from None

    async def closed(self, seconds: float = PACKET_SECONDS) -> int | None:
        """Wait until the server has closed the connection; returns the close code."""
        async with asyncio.timeout(seconds):
            await asyncio.shield(self._reader)
        return self._websocket.close_code

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it yet."""
        return not self._ended

    async def close(self) -> None:
        """Go away."""
        await self._websocket.close()
        await self._reader


@asynccontextmanager
async def raw_socket(node: Node, user_id: str | None = None, *, query: str = "") -> AsyncIterator[RawSocket]:
    """A websocket to a node, past its OPEN packet; with a `user_id` also past CONNECT."""
    async with aiohttp.ClientSession() as http:
        websocket = await http.ws_connect(node.url + ENDPOINT + "websocket" + query, max_msg_size=0)
        raw = RawSocket(websocket)
        await raw.until(lambda: raw.packets)
        if user_id is not None:
            await raw.connect(node.token(user_id))
        yield raw
        await raw.close()
