"""Who is calling."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified identity: the claims of one token that handlers need.

    `scopes` is closed under inclusion: `admin` includes `service`. `expires_at` and `issued_at` are in UTC;
    a token without `iat` counts as issued at the epoch. `session_id` is the Socket.IO connection that the call came
    by, or None for HTTP.
    """

    user_id: str
    scopes: frozenset[str]
    expires_at: datetime
    issued_at: datetime
    token_id: str | None = None
    name: str | None = None
    avatar: str | None = None
    session_id: str | None = None
