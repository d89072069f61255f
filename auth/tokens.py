"""Tokens: from the bytes of a handshake to a Caller (wire contract, section 1; RFC 7515, 7519 and 8725)."""

import math
import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jwt
import orjson

from auth.caller import Caller
from auth.keys import KeySource, StaticKeys
from protocol.errors import AuthRequired, TokenExpired, TokenInvalid
from protocol.types import USER_ID_PATTERN

MAX_TOKEN_BYTES = 8192
"""Refused unread beyond this; tokens of the large identity providers stay below 4 KiB."""

LEEWAY_SECONDS = 5
"""How far an issuer's clock may run ahead of ours: for `iat` and `nbf`, never for `exp`."""

MAX_NUMERIC_DATE = 253_402_300_799
"""The end of the year 9999. A time in milliseconds, a common mistake, lies beyond it."""

SCOPES = frozenset({"user", "service", "admin"})
_USER = frozenset({"user"})
MAX_NAME_LENGTH = 200
MAX_AVATAR_LENGTH = 2000
MAX_TOKEN_ID_LENGTH = 256
TOKEN_TYPES = frozenset({"jwt", "at+jwt"})

_USER_ID = re.compile(USER_ID_PATTERN)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class TokenVerifier:
    """Verifies tokens against one source of keys and the algorithms bound to them.

    What the header says about keys (`jwk`, `jku`, `x5u`, `x5c`) is never followed. Without `audience` the claim `aud`
    is ignored, without `issuer` the claim `iss`: configure both where one issuer serves several applications.
    With StaticKeys a verification neither waits nor starts a task. `now` is Unix time in seconds.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        now: Callable[[], float],
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        self._keys = keys
        self._now = now
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: object) -> Caller:
        """The caller that this token stands for. Cancelling is safe at any moment.

        Raises:
            AuthRequired: there is no token: None or "".
            TokenExpired: all is well but its time.
            TokenInvalid: anything else.
            Unavailable: the keys could not be fetched, so nothing is known of the token.
        """
        if token is None or token == "":
            raise AuthRequired
        if not isinstance(token, str):
            raise TokenInvalid("the token must be a string")
        claims = await self._signed_claims(token)
        return self._caller(claims)

    async def _signed_claims(self, token: str) -> dict[str, Any]:
        """The payload, after its signature was found to fit."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenInvalid(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenInvalid("the token is not a JWT of three parts")
        header = _json_object(_decode(parts[0]))
        algorithm, kid = _checked_header(header)
        if algorithm not in self._keys.algorithms:
            raise TokenInvalid("the token's algorithm is not accepted")
        payload, signature = _decode(parts[1]), _decode(parts[2])
        key = await self._keys.key_for(kid, algorithm)
        if not key.fits(f"{parts[0]}.{parts[1]}".encode(), signature):
            raise TokenInvalid("the token's signature does not fit")
        return _json_object(payload)

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        subject = claims.get("sub")
        if not isinstance(subject, str) or _USER_ID.fullmatch(subject) is None:
            raise TokenInvalid("the token's sub is missing or no user id")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise TokenInvalid("the token's iss is not the one expected")
        if self._audience is not None and not _names(claims.get("aud"), self._audience):
            raise TokenInvalid("the token's aud is not this service")
        scopes = _scopes(claims.get("scope"))
        token_id = _token_id(claims.get("jti"))
        expires_at, issued_at = self._checked_times(claims)
        return Caller(
            user_id=subject,
            scopes=scopes,
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            issued_at=datetime.fromtimestamp(issued_at, UTC),
            token_id=token_id,
            name=_profile_text(claims.get("name"), MAX_NAME_LENGTH),
            avatar=_profile_text(claims.get("avatar"), MAX_AVATAR_LENGTH),
        )

    def _checked_times(self, claims: Mapping[str, Any]) -> tuple[float, float]:
        """`exp` and `iat`. Expiry is looked at last: TOKEN_EXPIRED promises that a fresh token will do."""
        now = self._now()
        expires_at = _numeric_date(claims, "exp")
        if expires_at is None:
            raise TokenInvalid("the token's exp is missing")
        issued_at = _numeric_date(claims, "iat") or 0
        if issued_at > now + LEEWAY_SECONDS:
            raise TokenInvalid("the token's iat lies in the future")
        if (_numeric_date(claims, "nbf") or 0) > now + LEEWAY_SECONDS:
            raise TokenInvalid("the token's nbf lies in the future")
        if expires_at <= now:
            raise TokenExpired
        return expires_at, issued_at


def issue_token(
    user_id: str,
    *,
    secret: str | bytes,
    ttl_seconds: float,
    now: float,
    algorithm: str = "HS256",
    scopes: Sequence[str] = ("user",),
    issuer: str | None = None,
    audience: str | None = None,
    name: str | None = None,
) -> str:
    """A token signed with a shared secret, for development, tests and tools; its `jti` is random.

    It is good for at least `ttl_seconds` from `now` (Unix time), and less than a second more: `exp` is rounded up.

    Raises:
        ValueError: no user id, an unknown scope, no HMAC algorithm, or a weak secret.
    """
    if _USER_ID.fullmatch(user_id) is None:
        raise ValueError(f"a user id matches {USER_ID_PATTERN}")
    if not SCOPES.issuperset(scopes):
        raise ValueError(f"scopes are {sorted(SCOPES)}, got {list(scopes)}")
    StaticKeys.from_secret(secret, [algorithm])
    claims = {
        "sub": user_id,
        "iat": math.floor(now),
        "exp": math.ceil(now + ttl_seconds),
        "jti": uuid.uuid4().hex,
        "scope": " ".join(scopes),
        "iss": issuer,
        "aud": audience,
        "name": name,
    }
    return jwt.encode({claim: value for claim, value in claims.items() if value is not None}, secret, algorithm)


def _decode(part: str) -> bytes:
    """Base64url in its only canonical form (RFC 7515, 2): no padding, no foreign letters, no stray bits."""
    try:
        raw = part.encode("ascii")
        decoded = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    except ValueError:
        raise TokenInvalid("the token is not base64url") from None
    if urlsafe_b64encode(decoded).rstrip(b"=") != raw:
        raise TokenInvalid("the token is not base64url")
    return decoded


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise TokenInvalid("the token does not carry JSON") from None
    if not isinstance(value, dict):
        raise TokenInvalid("the token does not carry a JSON object")
    return value


def _checked_header(header: Mapping[str, Any]) -> tuple[str, str | None]:
    """`alg` and `kid`. Extensions that must be understood are refused, and so are tokens of another declared type."""
    algorithm, kid, token_type = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None) or "crit" in header:
        raise TokenInvalid("the token's header is not accepted")
    if not isinstance(token_type, str) or token_type.lower().removeprefix("application/") not in TOKEN_TYPES:
        raise TokenInvalid("the token is of another type")
    return algorithm, kid


def _numeric_date(claims: Mapping[str, Any], claim: str) -> float | None:
    """RFC 7519, 2: an integer or not, but a number; a JSON true, an int to Python, is none."""
    if claim not in claims:
        return None
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_NUMERIC_DATE:
        raise TokenInvalid(f"the token's {claim} is not a number of seconds since 1970")
    return float(value)


def _names(audience: object, wanted: str) -> bool:
    return audience == wanted or (isinstance(audience, list) and wanted in audience)


def _scopes(claim: object) -> frozenset[str]:
    words = claim.split() if isinstance(claim, str) else [] if claim is None else claim
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TokenInvalid("the token's scope is neither a string nor a list of strings")
    known = SCOPES.intersection(words) or _USER
    return _shared_scopes(known | {"service"} if "admin" in known else known)


@cache
def _shared_scopes(scopes: frozenset[str]) -> frozenset[str]:
    """One set for all callers of these scopes: each session keeps its caller."""
    return scopes


def _token_id(claim: object) -> str | None:
    if claim is None:
        return None
    if not isinstance(claim, str) or not 0 < len(claim) <= MAX_TOKEN_ID_LENGTH:
        raise TokenInvalid(f"the token's jti is not a string of 1 to {MAX_TOKEN_ID_LENGTH} characters")
    return claim


def _profile_text(claim: object, max_length: int) -> str | None:
    """A claim for show; a malformed one is dropped, as it should lock nobody out."""
    if not isinstance(claim, str) or len(claim) > max_length or not claim.strip() or _CONTROL.search(claim):
        return None
    return claim
