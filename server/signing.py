"""Tokens that this server signs itself, for development and the command line."""

import time
from collections.abc import Callable, Sequence

from auth.tokens import issue_token
from server.settings import Settings

TOKEN_TTL_SECONDS = 7 * 24 * 3600
DEVELOPMENT_USERS = ("alice", "bob")


def sign_token(
    settings: Settings,
    user_id: str,
    scopes: Sequence[str] = ("user",),
    ttl_seconds: int = TOKEN_TTL_SECONDS,
    name: str | None = None,
) -> str:
    """A token that this server accepts. Raises: ValueError when there is no secret, or the user id is none."""
    if settings.jwt_secret is None:
        raise ValueError(
            "tokens for this server come from whoever has the private key of JWT_PUBLIC_KEY or JWKS_URL; "
            "it can sign some itself with JWT_SECRET only"
        )
    return issue_token(
        user_id,
        secret=settings.jwt_secret,
        algorithm=settings.jwt_algorithms[0],
        ttl_seconds=ttl_seconds,
        scopes=scopes,
        now=time.time(),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        name=name,
    )


def development_tokens(settings: Settings) -> Callable[[], dict[str, str]] | None:
    """What makes the demo page's ready-made tokens, by user id; None in production and without a secret."""
    if settings.environment != "development" or settings.jwt_secret is None:
        return None
    return lambda: {user_id: sign_token(settings, user_id) for user_id in DEVELOPMENT_USERS}
