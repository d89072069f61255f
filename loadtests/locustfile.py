"""Parley under Locust: users with tokens of their own, over the stock python-socketio client.

    python -m locust -f loadtests/locustfile.py --headless --users 100 --spawn-rate 20 --run-time 30s

Each user joins one of `--rooms` channels and writes to it every 0.5 to 1.5 s. Locust's table has the rows `connect` (to
`session:ready`), `ack message:send`, and `delivery message:received`: from the sending user's clock to the receiving
one's, so all of Locust's processes belong on one machine.
"""

import logging
import os
import secrets
import time
from threading import Event
from typing import Any

import socketio
from locust import User, between, events, task
from locust.exception import StopUser

from loadtests.tokens import NoTokens, find_secret, sign_tokens

log = logging.getLogger(__name__)

DEFAULT_HOST = "http://127.0.0.1:3000"
NO_RUN = 3
OWNER = "locust-owner"
CALL_SECONDS = 15
"""Above the server's own deadline of 5 s, so that its answer is heard."""
PREFIX = "locust-"
"""Of the clientIds that say when their message was sent."""
RUN = secrets.token_hex(4)
"""Part of the user ids, beside the process' own id, which tells apart those that Locust forks: none share users."""


class Refused(Exception):
    """An ack without success; shown by Locust as the failure's reason."""


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Options of ours beside Locust's; also as environment variables and in its web page."""
    parser.add_argument("--jwt-secret", default="", is_secret=True, help="HS256 secret (JWT_SECRET, else DATA_DIR/…)")
    parser.add_argument("--rooms", type=int, default=10, help="channels that the users spread over (10)")
    parser.add_argument("--payload", type=int, default=64, help="length of a message's text (64)")


@events.test_start.add_listener
def make_rooms(environment: Any, **_: Any) -> None:
    """Make the channels, or find them: the same owner and clientId always name the same room."""
    options, host = environment.parsed_options, environment.host or DEFAULT_HOST
    try:
        open_rooms(host, options)
    except (socketio.exceptions.SocketIOError, Refused, NoTokens) as failure:
        log.error("no run against %s: %s. Start a server (make run) or name another with --host.", host, failure)
        raise SystemExit(NO_RUN) from None


def open_rooms(host: str, options: Any) -> None:
    """Fill `Talker.room_ids`. Raises as `connect` and `call` do, and NoTokens."""
    Talker.room_ids.clear()
    client = connect(host, sign_tokens([OWNER], find_secret(options.jwt_secret))[0])
    try:
        for number in range(options.rooms):
            payload = {"kind": "channel", "title": f"locust {number}", "clientId": f"locust-{number}"}
            Talker.room_ids.append(call(client, "room:create", payload)["room"]["roomId"])
    finally:
        client.disconnect()


def connect(host: str, token: str, on_message: Any = None) -> socketio.Client:
    """A client that has its session. Raises socketio.exceptions.ConnectionError or Refused."""
    client, ready = socketio.Client(reconnection=False), Event()
    client.on("session:ready", lambda *_: ready.set())
    if on_message is not None:
        client.on("message:received", on_message)
    # Recovery is off because this client hands the offset to its handlers as one more argument.
    auth = {"token": token, "recovery": False}
    client.connect(host, auth=auth, transports=["websocket"], wait_timeout=CALL_SECONDS)
    if not ready.wait(CALL_SECONDS):
        client.disconnect()
        raise Refused("no session:ready")
    return client


def call(client: socketio.Client, event: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Emit and wait for the ack. Raises Refused or socketio.exceptions.TimeoutError."""
    reply: dict[str, Any] = client.call(event, payload, timeout=CALL_SECONDS)
    if reply.get("success") is not True:
        raise Refused(reply.get("error", {}).get("code", "no reason given"))
    return reply


class Talker(User):
    """Someone who is in a room, listens, and now and then writes."""

    wait_time = between(0.5, 1.5)
    host = DEFAULT_HOST
    room_ids: list[str] = []
    count = 0

    def on_start(self) -> None:
        """Connect and join; a user who cannot is gone, and counted as a failure."""
        options = self.environment.parsed_options
        Talker.count += 1
        name = f"locust-{RUN}-{os.getpid()}-{Talker.count}"
        self.text = "m" * options.payload
        self.room_id = self.room_ids[Talker.count % len(self.room_ids)]
        self.client: socketio.Client | None = None
        with self.environment.events.request.measure("connect", "connect"):
            self.client = connect(self.host, sign_tokens([name], find_secret(options.jwt_secret))[0], self.on_message)
            call(self.client, "room:join", {"roomId": self.room_id})
        if self.client is None:
            raise StopUser

    def on_stop(self) -> None:
        """Hang up."""
        if self.client is not None:
            self.client.disconnect()

    @task
    def send(self) -> None:
        """One message, measured to its ack."""
        client_id = f"{PREFIX}{secrets.token_hex(8)}-{time.monotonic_ns()}"
        with self.environment.events.request.measure("ack", "message:send"):
            call(self.client, "message:send", {"roomId": self.room_id, "text": self.text, "clientId": client_id})

    def on_message(self, message: dict[str, Any]) -> None:
        """One delivery, measured from the call that sent it; the client tells it in its clientId."""
        client_id = message["clientId"] or ""
        if client_id.startswith(PREFIX):
            milliseconds = (time.monotonic_ns() - int(client_id.rpartition("-")[2])) / 1e6
            length = len(message["text"] or "")
            self.environment.events.request.fire(
                request_type="delivery", name="message:received", response_time=milliseconds, response_length=length,
                exception=None, context={},
            )  # fmt: skip
