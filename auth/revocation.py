"""What has been withdrawn: single tokens, a user's tokens issued before a time, whole users. No I/O."""

from dataclasses import dataclass, field
from datetime import datetime

from auth.caller import Caller
from protocol.errors import TokenRevoked, UserBlocked


@dataclass(slots=True)
class Revocations:
    """The withdrawals known so far. Taking one in again changes nothing; a user's latest time counts."""

    tokens: set[str] = field(default_factory=set)
    issued_before: dict[str, datetime] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.tokens) + len(self.issued_before) + len(self.blocked)

    def revoke_token(self, token_id: str) -> None:
        """Withdraw the token with this `jti`."""
        self.tokens.add(token_id)

    def revoke_issued_before(self, user_id: str, moment: datetime) -> None:
        """Withdraw all tokens of a user whose `iat` is before this time, those without `iat` among them."""
        earlier = self.issued_before.get(user_id)
        self.issued_before[user_id] = moment if earlier is None else max(earlier, moment)

    def block(self, user_id: str) -> None:
        """Shut a user out, whatever their token."""
        self.blocked.add(user_id)

    def lift_block(self, user_id: str) -> None:
        """Let a user in again."""
        self.blocked.discard(user_id)

    def check(self, caller: Caller) -> None:
        """Raises: UserBlocked; TokenRevoked."""
        if caller.user_id in self.blocked:
            raise UserBlocked
        if caller.token_id in self.tokens:
            raise TokenRevoked
        earliest = self.issued_before.get(caller.user_id)
        if earliest is not None and caller.issued_at < earliest:
            raise TokenRevoked
