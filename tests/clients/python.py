"""The stock Python client."""

from typing import Any

import socketio
from socketio.exceptions import ConnectionError as ConnectFailed

from tests.clients.user import Received, Refused


class PythonClient:
    """python-socketio's AsyncClient. Options: `transports`, `auth` (more fields), `reconnection` (off)."""

    def __init__(
        self,
        url: str,
        token: Any,
        user_id: str,
        *,
        transports: tuple[str, ...] = ("websocket",),
        auth: dict[str, Any] | None = None,
        reconnection: bool = False,
    ) -> None:
        self.user_id = user_id
        self.received = Received()
        self.client = socketio.AsyncClient(reconnection=reconnection, reconnection_delay=0.1)
        self.client.on("*", self._take)
        self.client.on("connect_error", self._refused)
        self._url = url
        self._transports = list(transports)
        self._auth = {"token": token, **(auth or {})} if token is not None else auth
        self._refusal: Any = None

    async def _take(self, event: str, *args: Any) -> None:
        self.received.add(event, args[0] if args else None)

    async def _refused(self, data: Any) -> None:
        self._refusal = data

    async def connect(self) -> Any:
        """Connect and return `session:ready`. Raises: Refused."""
        try:
            await self.client.connect(self._url, auth=self._auth, transports=self._transports, wait_timeout=10)
        except ConnectFailed as error:
            await self.client.disconnect()
            refusal: dict[str, Any] = self._refusal if isinstance(self._refusal, dict) else {"message": str(error)}
            raise Refused(refusal["message"], refusal.get("data")) from None
        return await self.received.next("session:ready")

    async def call(self, event: str, payload: Any = None, seconds: float = 10.0) -> Any:
        """Send an event and return its ack."""
        return await self.client.call(event, payload, timeout=seconds)

    async def push(self, event: str, *payload: Any) -> None:
        """Send an event without asking for an ack."""
        await self.client.emit(event, payload if payload else None)

    @property
    def connected(self) -> bool:
        """Whether the client believes to be connected."""
        return bool(self.client.connected)

    async def close(self) -> None:
        """Disconnect and stop coming back."""
        await self.client.disconnect()
        await self.client.shutdown()
