"""The way from long-polling to a websocket: `2probe`, `3probe`, then `5` once the client's last poll has come back.

Source: Engine.IO protocol 4, "Upgrade".
"""

from realtime.frames import PROBE_ANSWER
from realtime.socket import Socket
from realtime.timeouts import Timeout
from realtime.websocket import WebSocket


class Upgrade:
    """A websocket that wants to take over a polling connection. Until it has, it carries nothing but the probe."""

    __slots__ = ("_probed", "_socket", "_under_way", "_websocket")

    def __init__(self, socket: Socket, under_way: "Timeout[Upgrade]") -> None:
        self._socket = socket
        self._under_way = under_way
        self._websocket: WebSocket | None = None
        self._probed = False
        under_way.begin(self)

    def attach(self, websocket: WebSocket) -> None:
        """Use this websocket."""
        self._websocket = websocket

    def text(self, message: bytes) -> None:
        """Take a step of the upgrade; anything else ends it, and polling goes on."""
        websocket, polling = self._websocket, self._socket.polling
        if websocket is None or polling is None:
            return
        if message == b"2probe" and not self._probed and self._socket.is_polling and not polling.probing:
            self._probed = True
            websocket.write(PROBE_ANSWER.frame)
            polling.probe()
        elif message == b"5" and self._probed and self._socket.is_polling and not self._socket.closed:
            self._under_way.end(self)
            self._socket.attach(websocket)
        else:
            self.give_up()

    def binary(self, message: bytes) -> None:
        """Not a step of an upgrade."""
        self.give_up()

    def give_up(self) -> None:
        """End the upgrade; the polling connection is as it was."""
        if self._websocket is not None:
            self._websocket.close()
        self.lost()

    def broken(self, code: int) -> None:
        """The client broke the websocket's framing: that ends the upgrade alone."""
        self.lost()

    def stalled(self) -> None:
        """Nothing is written but the probe's answer."""

    def drained(self) -> None:
        """Nothing is written but the probe's answer."""

    def lost(self) -> None:
        """The websocket has gone before it was used."""
        self._under_way.end(self)
        self._websocket = None
        if self._probed:
            self._probed = False
            if self._socket.polling is not None:
                self._socket.polling.end_probe()
