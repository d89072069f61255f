"""Tokens for the users of a run: signed here, or taken from a file."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jwt

TOKEN_SECONDS = 86_400
"""A run ends long before its tokens do."""
SECRET_MIN_BYTES = 32
"""RFC 7518, section 3.2."""
SECRET_FILE = "jwt-secret"


class NoTokens(Exception):
    """There is nothing to sign with, or a file has too few tokens; the message says what to give."""


def find_secret(given: str | None, environment: Mapping[str, str] | None = None) -> str:
    """The HS256 secret: the one given, else `JWT_SECRET`, else the development secret in `DATA_DIR`.

    Raises NoTokens.
    """
    environment = os.environ if environment is None else environment
    secret = given or environment.get("JWT_SECRET")
    if secret:
        if len(secret.encode()) < SECRET_MIN_BYTES:
            raise NoTokens(f"the secret is shorter than {SECRET_MIN_BYTES} bytes: no server takes such a one")
        return secret
    path = Path(environment.get("DATA_DIR") or ".parley") / SECRET_FILE
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise NoTokens(
            f"no secret to sign tokens with: give --secret or --tokens, set JWT_SECRET, or start a development server "
            f"here first, which leaves one in {path} ({type(fault).__name__})"
        ) from None


def sign_tokens(user_ids: Sequence[str], secret: str) -> list[str]:
    """One HS256 token a user, valid for a day."""
    now = int(time.time())
    return [jwt.encode({"sub": name, "iat": now, "exp": now + TOKEN_SECONDS}, secret, "HS256") for name in user_ids]


def read_tokens(path: Path, count: int) -> list[str]:
    """The first `count` lines of a file with one token a line, each of another user.

    Raises NoTokens when the file cannot be read or is too short.
    """
    try:
        tokens = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError) as fault:
        raise NoTokens(f"{path} cannot be read as tokens: {fault}") from None
    if len(tokens) < count:
        raise NoTokens(
            f"{path} has {len(tokens)} tokens, this run needs {count}: one a connection and one for the owner"
        )
    return tokens[:count]
