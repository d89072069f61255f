"""A TCP proxy between a node and a store, to cut, refuse, stall or lose what goes through it."""

import asyncio
import contextlib
from urllib.parse import urlsplit

CHUNK_BYTES = 65_536


class Proxy:
    """Forwards connections to the store at `target`, a URL with host and port. `url` is the same store through it."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._pairs: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._swallowing = False
        self._tripwire: bytes | None = None

    @property
    def url(self) -> str:
        """Where the store seems to be."""
        return self._target._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    async def start(self, *, refusing: bool = False) -> None:
        """Choose a port and accept connections there, or, `refusing`, none yet."""
        await self.accept()
        if refusing:
            await self.refuse()

    async def accept(self) -> None:
        """Take connections (again)."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut all connections and take no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    def cut(self) -> None:
        """Cut all connections; new ones are taken."""
        for pair in list(self._pairs.values()):
            for writer in pair:
                writer.transport.abort()

    def stall(self) -> None:
        """Keep connections open, and let nothing through."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let what was held back go on."""
        self._flowing.set()

    def swallow(self) -> None:
        """Let nothing through any more, not even the end of a connection: the far end believes that it stands."""
        self._swallowing = True

    def cut_at(self, tripwire: bytes) -> None:
        """When these bytes come by for the first time, in either direction, lose them and cut that connection."""
        self._tripwire = tripwire

    @property
    def tripped(self) -> bool:
        """Whether the tripwire has gone off."""
        return self._tripwire is None

    async def close(self) -> None:
        """Stop."""
        self._flowing.set()
        await self.refuse()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._pairs[task] = (writer, far_writer)
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            del self._pairs[task]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction until either end has gone; then both ends go."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                if self._swallowing:
                    continue
                if self._tripwire is not None and self._tripwire in data:
                    self._tripwire = None
                    break
                writer.write(data)
                await writer.drain()
        if self._swallowing:
            return
        for pair in list(self._pairs.values()):
            if writer in pair:
                for end in pair:
                    end.transport.abort()
