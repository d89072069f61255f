"""Keys from a JWKS URL, cached and kept fresh (RFC 7517; wire contract, section 1)."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable

import aiohttp
import orjson
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from auth.keys import PUBLIC_KEY_ALGORITHMS, VerificationKey, allowed, public_key
from protocol.errors import TokenInvalid, Unavailable

REFRESH_SECONDS = 600
REFRESH_MIN_SECONDS, REFRESH_MAX_SECONDS = 60, 3600
"""Bounds to what a response's max-age may ask for; REFRESH_SECONDS holds when it asks for nothing."""

RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS = 1, 60
"""After a failed fetch the next follows after a delay that doubles between these."""

REFETCH_SECONDS = 30
"""Unknown key ids, which anyone can make up, cause at most one fetch in this time."""

FETCH_TIMEOUT_SECONDS = 5
MAX_RESPONSE_BYTES = 256 * 1024
MAX_KEYS = 100
CHUNK_BYTES = 16 * 1024

_BY_TYPE = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_READERS = {kty: get_default_algorithms()[algorithm] for kty, algorithm in _BY_TYPE.items()}
_MAX_AGE = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})\"?\s*(?:,|$)", re.IGNORECASE)

log = structlog.get_logger(__name__)


class KeySetRefused(Exception):
    """The response is not a key set that this server takes; the text says why and quotes nothing of it."""


class JwksKeys:
    """A key set from a URL: fetched at start, refreshed in the background, looked up without waiting.

    A refresh replaces the whole set, so a key that was withdrawn is no longer accepted; while refreshes fail the keys
    known before stay in use. An unknown `kid` leads to one more fetch at most every REFETCH_SECONDS, and everyone who
    needs a fetch at that moment waits for the same one: it is a task of its own, so a waiter that is cancelled
    takes nothing from the others. `now` is a monotonic clock, `sleep` waits between refreshes, both in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        algorithms: Iterable[str] = PUBLIC_KEY_ALGORITHMS,
        session: aiohttp.ClientSession | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`session` stays its owner's to close; without one, start() opens one and stop() closes it.

        Raises:
            ValueError: the URL is not one of http or https, or an algorithm is not a public-key one.
        """
        if not url.startswith(("https://", "http://")):
            raise ValueError("the JWKS URL must begin with https:// or http://")
        self.algorithms = frozenset(allowed(algorithms, PUBLIC_KEY_ALGORITHMS))
        self._url = url
        self._session = session
        self._owns_session = session is None
        self._now = now
        self._sleep = sleep
        self._keys: list[VerificationKey] = []
        self._current = False
        self._next_delay: float = RETRY_FIRST_SECONDS
        self._retry_delay: float = RETRY_FIRST_SECONDS
        self._refetched_at: float | None = None
        self._flight: asyncio.Task[None] | None = None
        self._refresher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch once and keep fetching in the background. A failing fetch is logged, not raised."""
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        try:
            await self._fetch_shared()
        except asyncio.CancelledError:
            await self.stop()
            raise
        self._refresher = asyncio.create_task(self._keep_fresh(), name="jwks-refresh")

    async def stop(self) -> None:
        """End the background task and any fetch under way; who waits for it is told Unavailable. May be repeated."""
        self._current = False
        session, self._session = self._session, None
        tasks = [task for task in (self._refresher, self._flight) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if session is not None and self._owns_session:
            await session.close()

    async def key_for(self, kid: str | None, algorithm: str) -> VerificationKey:
        """The key with this id and algorithm; without an id, the only key that fits the algorithm.

        Waits only if the key is unknown and a fetch is allowed, at most FETCH_TIMEOUT_SECONDS. Cancelling is safe.

        Raises:
            TokenInvalid: there is no such key in a set fetched successfully last time.
            Unavailable: there is no such key, and the last fetch failed: it may well exist.
        """
        key = self._find(kid, algorithm)
        if key is None and self._may_refetch():
            await self._fetch_shared()
            key = self._find(kid, algorithm)
        if key is not None:
            return key
        if not self._current:
            raise Unavailable("the signing keys could not be fetched", retry_after_ms=1000 * FETCH_TIMEOUT_SECONDS)
        raise TokenInvalid("the token's key is not known")

    def _find(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        matches = [key for key in self._keys if key.algorithm == algorithm and (kid is None or key.kid == kid)]
        return matches[0] if len(matches) == 1 else None

    def _may_refetch(self) -> bool:
        """Whether to wait for a fetch: for one under way always, for a new one if the last was long enough ago."""
        if self._session is None:
            return False
        if self._flight is not None and not self._flight.done():
            return True
        now = self._now()
        if self._refetched_at is not None and now < self._refetched_at + REFETCH_SECONDS:
            return False
        self._refetched_at = now
        return True

    async def _fetch_shared(self) -> None:
        """Join the fetch under way, or start one. asyncio.wait leaves the task alone when the waiter is cancelled."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fetch_and_keep(), name="jwks-fetch")
        await asyncio.wait([self._flight])

    async def _keep_fresh(self) -> None:
        while True:
            await self._sleep(self._next_delay)
            await self._fetch_shared()

    async def _fetch_and_keep(self) -> None:
        """One fetch; whatever goes wrong in it is logged, and the keys known before stay."""
        try:
            keys, self._next_delay = await self._fetch()
        except Exception as error:
            self._current = False
            self._next_delay, self._retry_delay = self._retry_delay, min(2 * self._retry_delay, RETRY_MAX_SECONDS)
            reason = str(error) if isinstance(error, KeySetRefused) else type(error).__name__
            log.warning("jwks fetch failed", reason=reason, keys_kept=len(self._keys), retry_s=self._next_delay)
        else:
            self._keys, self._current, self._retry_delay = keys, True, RETRY_FIRST_SECONDS
            log.info("jwks fetched", keys=len(keys), refresh_s=self._next_delay)

    async def _fetch(self) -> tuple[list[VerificationKey], float]:
        """The usable keys, and after how many seconds to ask again."""
        if self._session is None:
            raise KeySetRefused("not started")
        async with self._session.get(
            self._url,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_SECONDS),
            headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
        ) as response:
            if response.status != 200:
                raise KeySetRefused(f"status {response.status}")
            body = await _bounded_body(response)
            cache_control = response.headers.get("Cache-Control", "")
        keys = [key for key in parse_key_set(body) if key.algorithm in self.algorithms]
        if not keys:
            raise KeySetRefused("no usable key")
        return keys, refresh_delay(cache_control)


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_RESPONSE_BYTES:
            raise KeySetRefused(f"more than {MAX_RESPONSE_BYTES} bytes")
    return bytes(body)


def refresh_delay(cache_control: str) -> float:
    """Seconds until the next refresh: the header's max-age within our bounds (RFC 9111, 5.2.2.1), else our own."""
    found = _MAX_AGE.search(cache_control)
    if found is None:
        return REFRESH_SECONDS
    return min(max(int(found[1]), REFRESH_MIN_SECONDS), REFRESH_MAX_SECONDS)


def parse_key_set(body: bytes) -> list[VerificationKey]:
    """The keys of a JWK Set that may verify a token; the others are left out, as RFC 7517, 5 asks.

    Raises:
        KeySetRefused: it is no JWK Set, or has more than MAX_KEYS keys.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise KeySetRefused("not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise KeySetRefused("not a JWK Set")
    if len(entries) > MAX_KEYS:
        raise KeySetRefused(f"more than {MAX_KEYS} keys")
    keys = [_usable_key(entry) for entry in entries]
    return [key for key in keys if key is not None]


def _usable_key(jwk: object) -> VerificationKey | None:
    """None for a key of another purpose or type, a weak or broken one, and one whose private half was published."""
    if not isinstance(jwk, dict):
        return None
    kty, kid, key_ops = jwk.get("kty"), jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kty, str) or kty not in _BY_TYPE or not isinstance(kid, str | None) or "d" in jwk:
        return None
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", _BY_TYPE[kty]) != _BY_TYPE[kty]:
        return None
    if not isinstance(key_ops, list) or "verify" not in key_ops:
        return None
    try:
        return public_key(_READERS[kty].from_jwk(jwk), kid)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
