"""Why a call or a connection came to nothing."""

import orjson

from loadtests.websocket_client import HandshakeRefused


class CallFailed(Exception):
    """No success: refused by the server, or no connection, or no answer.

    `code` is the contract's, SERVER_BUSY and SERVER_DRAINING of a refused handshake among them, or one of ours:
    CONNECTION_LOST, NO_ANSWER, UNREACHABLE, HTTP_<status>, PROTOCOL.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = True, retry_after: float = 0.0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after

    @classmethod
    def from_wire(cls, error: object) -> "CallFailed":
        """Of the `error` object of an ack, or the `data` of a connect_error."""
        fields = error if isinstance(error, dict) else {}
        return cls(
            str(fields.get("code", "PROTOCOL")),
            str(fields.get("message", "no reason given")),
            retryable=fields.get("retryable") is True,
            retry_after=float(fields.get("retryAfterMs") or 0) / 1000,
        )

    @classmethod
    def from_refusal(cls, refusal: HandshakeRefused) -> "CallFailed":
        """Of an HTTP answer; its body's `retryAfterMs` is more exact than the whole seconds of `Retry-After`."""
        try:
            fields = orjson.loads(refusal.body)
        except orjson.JSONDecodeError:
            fields = None
        fields = fields if isinstance(fields, dict) else {}
        wait = fields.get("retryAfterMs")
        return cls(
            str(fields.get("code") or f"HTTP_{refusal.status}"),
            str(refusal),
            retryable=refusal.status in (429, 500, 502, 503, 504),
            retry_after=wait / 1000 if isinstance(wait, int | float) else refusal.retry_after,
        )
