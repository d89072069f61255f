"""What a withdrawal hits, and what it leaves alone."""

from datetime import UTC, datetime, timedelta

import pytest

from auth.caller import Caller
from auth.revocation import Revocations
from protocol.errors import TokenRevoked, UserBlocked

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def caller(user_id: str = "ann", token_id: str | None = "t1", issued_at: datetime = NOON) -> Caller:
    """Somebody with a token."""
    return Caller(user_id, frozenset({"user"}), NOON + timedelta(hours=1), issued_at, token_id)


def test_a_token_is_withdrawn_by_its_id() -> None:
    """Only that token; tokens without an id cannot be named."""
    revocations = Revocations()
    revocations.revoke_token("t1")
    with pytest.raises(TokenRevoked):
        revocations.check(caller())
    revocations.check(caller(token_id="t2"))
    revocations.check(caller(token_id=None))


def test_a_users_older_tokens_are_withdrawn() -> None:
    """Those issued before the time, those without `iat` among them; an earlier time takes nothing back."""
    revocations = Revocations()
    revocations.revoke_issued_before("ann", NOON)
    revocations.revoke_issued_before("ann", NOON - timedelta(days=1))
    revocations.check(caller(issued_at=NOON))
    for issued_at in (NOON - timedelta(seconds=1), datetime(1970, 1, 1, tzinfo=UTC)):
        with pytest.raises(TokenRevoked):
            revocations.check(caller(issued_at=issued_at))
        revocations.check(caller("bob", issued_at=issued_at))


def test_a_blocked_user_is_out_until_the_block_is_lifted() -> None:
    """Whatever the token; a lift of what was never blocked changes nothing."""
    revocations = Revocations()
    revocations.lift_block("ann")
    revocations.block("ann")
    with pytest.raises(UserBlocked):
        revocations.check(caller(token_id=None))
    revocations.check(caller("bob"))
    revocations.lift_block("ann")
    revocations.check(caller())
    assert len(revocations) == 0
