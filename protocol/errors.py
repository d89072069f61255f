"""The error tree: every failure a caller can see, and how it leaves by Socket.IO and by HTTP.

    ParleyError
    ├── ValidationFailed    VALIDATION_ERROR 400     ├── PayloadTooLarge  PAYLOAD_TOO_LARGE 413
    ├── Unauthenticated     UNAUTHENTICATED 401      ├── RateLimited      RATE_LIMITED 429
    ├── AuthRequired        AUTH_REQUIRED 401        ├── Internal         INTERNAL 500
    ├── TokenInvalid        TOKEN_INVALID 401        ├── BadGateway       BAD_GATEWAY 502
    │   ├── TokenExpired    TOKEN_EXPIRED 401        ├── Unavailable      UNAVAILABLE 503
    │   └── TokenRevoked    TOKEN_REVOKED 401        └── DeadlineExceeded TIMEOUT 504
    ├── UserBlocked         USER_BLOCKED 403
    ├── Forbidden           FORBIDDEN 403
    ├── NotFound            NOT_FOUND 404
    ├── UnknownEvent        UNKNOWN_EVENT 404
    └── Conflict            CONFLICT 409

Source: the wire contract, sections 1 and 2.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict


class FieldFault(TypedDict):
    """One field that was refused: its dotted path ("" is the payload itself) and what it should have been."""

    field: str
    message: str


class ParleyError(Exception):
    """A failure that the caller is told about: a code, an HTTP status, and whether trying again can help.

    `message` is shown to callers: it names fields and limits, never stored content, tokens or internals.
    """

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    text: ClassVar[str] = "something went wrong on our side"

    def __init__(
        self,
        message: str | None = None,
        *,
        retry_after_ms: int | None = None,
        details: Sequence[FieldFault] | None = None,
    ) -> None:
        super().__init__(message or self.text)
        self.message = message or self.text
        self.retry_after_ms = retry_after_ms
        self.details = details

    def as_wire(self) -> dict[str, Any]:
        """The `error` object of acks and HTTP answers."""
        wire: dict[str, Any] = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if self.retry_after_ms is not None:
            wire["retryAfterMs"] = self.retry_after_ms
        if self.details is not None:
            wire["details"] = list(self.details)
        return wire


class ValidationFailed(ParleyError):
    """The payload breaks the contract; `details` names each field."""

    code, status, text = "VALIDATION_ERROR", 400, "the payload is not valid"


class Unauthenticated(ParleyError):
    """HTTP only: no credentials, or bad ones."""

    code, status, text = "UNAUTHENTICATED", 401, "no valid credentials"


class AuthRequired(ParleyError):
    """The handshake carried no token."""

    code, status, text = "AUTH_REQUIRED", 401, "a token is required: io(url, { auth: { token } })"


class TokenInvalid(ParleyError):
    """The token is not one that this server accepts."""

    code, status, text = "TOKEN_INVALID", 401, "the token is not valid"


class TokenExpired(TokenInvalid):
    """The token's `exp` has passed."""

    code, text = "TOKEN_EXPIRED", "the token has expired"


class TokenRevoked(TokenInvalid):
    """The token was withdrawn before its time."""

    code, text = "TOKEN_REVOKED", "the token has been revoked"


class UserBlocked(ParleyError):
    """The operator has shut this user out."""

    code, status, text = "USER_BLOCKED", 403, "this user is blocked"


class Forbidden(ParleyError):
    """The caller sees the thing but may not do this to it."""

    code, status, text = "FORBIDDEN", 403, "not allowed"


class NotFound(ParleyError):
    """No such thing, or none that the caller may know of."""

    code, status, text = "NOT_FOUND", 404, "not found"


class UnknownEvent(ParleyError):
    """The event is not part of the contract."""

    code, status, text = "UNKNOWN_EVENT", 404, "there is no such event"


class Conflict(ParleyError):
    """The same key was used before, with other content."""

    code, status, text = "CONFLICT", 409, "already used with another payload"


class PayloadTooLarge(ParleyError):
    """More bytes than the server takes."""

    code, status, text = "PAYLOAD_TOO_LARGE", 413, "the payload is too large"


class RateLimited(ParleyError):
    """Too much, too fast; `retryAfterMs` says when to come back."""

    code, status, retryable, text = "RATE_LIMITED", 429, True, "too many requests"


class Internal(ParleyError):
    """A fault of ours; whether it took effect is unknown."""

    code, status, retryable = "INTERNAL", 500, True


class BadGateway(ParleyError):
    """A service that we depend on answered wrongly."""

    code, status, retryable, text = "BAD_GATEWAY", 502, True, "a service behind this one failed"


class Unavailable(ParleyError):
    """A store is away; whether it took effect is unknown, and the same call may be sent again."""

    code, status, retryable, text = "UNAVAILABLE", 503, True, "the store is not reachable, try again"


class DeadlineExceeded(ParleyError):
    """The deadline ended the wait, not the work: whether it took effect is unknown."""

    code, status, retryable, text = "TIMEOUT", 504, True, "no answer in time, it may still take effect"
