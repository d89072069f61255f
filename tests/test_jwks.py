"""Keys from a JWKS URL: fetched, cached, refreshed and bounded, against a real server on loopback."""

import asyncio
import json
import socket
import time
import zlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from auth.jwks import (
    FETCH_TIMEOUT_SECONDS,
    MAX_KEYS,
    MAX_RESPONSE_BYTES,
    REFETCH_SECONDS,
    JwksKeys,
    KeySetRefused,
    parse_key_set,
    refresh_delay,
)
from auth.tokens import TokenVerifier
from protocol.errors import TokenInvalid, Unavailable

NOW = 1_800_000_000.0
CLAIMS = {"sub": "ada", "exp": NOW + 60}

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ED448 = ed448.Ed448PrivateKey.generate()


def jwk(private_key: Any, kid: str | None = None, **members: object) -> dict[str, Any]:
    """The public half as a JWK; a member of None leaves it out."""
    public = private_key.public_key()
    if isinstance(private_key, rsa.RSAPrivateKey):
        entry = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(private_key, ec.EllipticCurvePrivateKey):
        entry = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        entry = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {name: value for name, value in {**entry, "kid": kid, **members}.items() if value is not None}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Pace:
    """The pauses between refreshes: records how long each should be and ends it when told."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._go = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self._go.acquire()

    async def next(self) -> None:
        """End the present pause and wait for the next one, that is, for the refresh between."""
        await until(lambda: len(self.pauses) > 0)
        reached = len(self.pauses)
        self._go.release()
        await until(lambda: len(self.pauses) > reached)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Issuer:
    """An identity provider: what it answers can be changed, and it counts how often it was asked."""

    def __init__(self) -> None:
        self.requests = 0
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.keys(jwk(P256, "k1"))

    def keys(self, *entries: object) -> None:
        self.body = json.dumps({"keys": entries}).encode()

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        await self.open.wait()
        return web.Response(status=self.status, body=self.body, headers=self.headers)


class Setup:
    """An issuer, its server, and the key sets started against it in one test."""

    def __init__(self, issuer: Issuer, url: str) -> None:
        self.issuer = issuer
        self.url = url
        self.clock = Clock()
        self.pace = Pace()
        self.started: list[JwksKeys] = []

    async def start(self, url: str | None = None, **settings: Any) -> JwksKeys:
        keys = JwksKeys(url or self.url, now=self.clock, sleep=self.pace, **settings)
        self.started.append(keys)
        await keys.start()
        return keys


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/keys", issuer.answer)
    async with TestServer(app, host="127.0.0.1") as server:
        made = Setup(issuer, str(server.make_url("/keys")))
        yield made
        issuer.open.set()
        for keys in made.started:
            await keys.stop()


@pytest.mark.parametrize(
    ("algorithm", "private_key"), [("RS256", RSA), ("ES256", P256), ("EdDSA", ED25519), ("EdDSA", ED448)]
)
async def test_tokens_verify_with_fetched_keys(setup: Setup, algorithm: str, private_key: Any) -> None:
    """A token signed with a published key is accepted, with one fetch however many tokens come."""
    setup.issuer.keys(
        jwk(private_key, "k1", use="sig", alg=algorithm), jwk(ec.generate_private_key(ec.SECP256R1()), "k2")
    )
    verifier = TokenVerifier(await setup.start(), now=lambda: NOW)
    signed = jwt.encode(CLAIMS, private_key, algorithm, {"kid": "k1"})
    for _ in range(20):
        assert (await verifier.verify(signed)).user_id == "ada"
    assert setup.issuer.requests == 1


async def test_a_published_key_is_no_secret(setup: Setup) -> None:
    """Neither HMAC nor none works with a key set, even if the set lists a secret (RFC 8725, 2.1)."""
    secret = b"a-secret-of-32-bytes-for-testing"
    listed = {"kty": "oct", "k": urlsafe_b64encode(secret).rstrip(b"=").decode(), "kid": "k2", "alg": "HS256"}
    setup.issuer.keys(jwk(RSA, "k1"), listed)
    keys = await setup.start()
    verifier = TokenVerifier(keys, now=lambda: NOW)
    for kid in ("k1", "k2"):
        for forged in (
            jwt.encode(CLAIMS, secret, "HS256", {"kid": kid}),
            jwt.encode(CLAIMS, "", "none", {"kid": kid}),
        ):
            with pytest.raises(TokenInvalid):
                await verifier.verify(forged)
    assert setup.issuer.requests == 1
    with pytest.raises(ValueError, match="algorithms for this kind of key"):
        JwksKeys(setup.url, algorithms=["RS256", "HS256"])


async def test_a_kid_serves_its_own_algorithm_only(setup: Setup) -> None:
    """The id of an RSA key does not lead to it for a token of another algorithm, nor an algorithm not allowed."""
    setup.issuer.keys(jwk(RSA, "k1"), jwk(P256, "k2"))
    keys = await setup.start(algorithms=["RS256"])
    assert keys.algorithms == {"RS256"}
    assert (await keys.key_for("k1", "RS256")).algorithm == "RS256"
    for kid, algorithm in [("k1", "ES256"), ("k2", "ES256"), ("k2", "RS256"), ("", "RS256")]:
        with pytest.raises(TokenInvalid):
            await keys.key_for(kid, algorithm)


async def test_without_kid_only_an_unambiguous_key(setup: Setup) -> None:
    """A token that names no key is verified if one key fits its algorithm, and refused if several do."""
    setup.issuer.keys(jwk(RSA, "k1"), jwk(P256, "k2"), jwk(ec.generate_private_key(ec.SECP256R1()), "k3"))
    keys = await setup.start()
    assert (await keys.key_for(None, "RS256")).kid == "k1"
    with pytest.raises(TokenInvalid):
        await keys.key_for(None, "ES256")


async def test_rotation_is_noticed_by_an_unknown_kid(setup: Setup) -> None:
    """A token of a new key is accepted at once, and the old key is gone when the issuer withdrew it."""
    keys = await setup.start()
    setup.issuer.keys(jwk(RSA, "k2"))
    assert (await keys.key_for("k2", "RS256")).kid == "k2"
    with pytest.raises(TokenInvalid):
        await keys.key_for("k1", "ES256")
    assert setup.issuer.requests == 2


async def test_a_hundred_unknown_kids_cause_one_fetch(setup: Setup) -> None:
    """Made-up key ids cost the issuer one request in 30 s, however many come at once or after."""
    keys = await setup.start()
    setup.issuer.open.clear()
    asked = [asyncio.create_task(keys.key_for(f"unknown-{number}", "ES256")) for number in range(100)]
    await until(lambda: setup.issuer.requests == 2)
    setup.issuer.open.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(outcome, TokenInvalid) for outcome in outcomes)
    for number in range(100):
        with pytest.raises(TokenInvalid):
            await keys.key_for(f"later-{number}", "ES256")
    setup.clock.seconds += REFETCH_SECONDS - 1
    with pytest.raises(TokenInvalid):
        await keys.key_for("unknown", "ES256")
    assert setup.issuer.requests == 2
    setup.clock.seconds += 1
    with pytest.raises(TokenInvalid):
        await keys.key_for("unknown", "ES256")
    assert setup.issuer.requests == 3


async def test_known_keys_do_not_wait_for_a_fetch(setup: Setup) -> None:
    """While the issuer hangs, tokens of known keys go on being verified."""
    keys = await setup.start()
    setup.issuer.open.clear()
    waiting = asyncio.create_task(keys.key_for("unknown", "ES256"))
    await until(lambda: setup.issuer.requests == 2)
    async with asyncio.timeout(1):
        assert (await keys.key_for("k1", "ES256")).kid == "k1"
    assert not waiting.done()
    setup.issuer.open.set()
    with pytest.raises(TokenInvalid):
        await waiting


async def test_a_cancelled_waiter_takes_nothing_from_the_others(setup: Setup) -> None:
    """The fetch belongs to no waiter: cancelling the one who caused it leaves it running for the rest."""
    keys = await setup.start()
    setup.issuer.keys(jwk(RSA, "k2"))
    setup.issuer.open.clear()
    first, second, third = (asyncio.create_task(keys.key_for("k2", "RS256")) for _ in range(3))
    await until(lambda: setup.issuer.requests == 2)
    for cancelled in (first, third):
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    setup.issuer.open.set()
    assert (await second).kid == "k2"
    assert setup.issuer.requests == 2


async def test_refresh_in_the_background(setup: Setup) -> None:
    """The set is fetched again after ten minutes, or what max-age says within bounds, and replaces the old one."""
    keys = await setup.start()
    setup.issuer.keys(jwk(RSA, "k2"))
    setup.issuer.headers = {"Cache-Control": "public, max-age=120"}
    await setup.pace.next()
    assert setup.pace.pauses == [600, 120]
    assert (await keys.key_for("k2", "RS256")).kid == "k2"
    assert setup.issuer.requests == 2


async def test_old_keys_stay_while_refreshes_fail(setup: Setup) -> None:
    """An issuer that is away, or answers nonsense, locks nobody out; retries slow down, and success resets them."""
    keys = await setup.start()
    setup.issuer.status = 500
    for _ in range(3):
        await setup.pace.next()
    setup.issuer.status, body = 200, setup.issuer.body
    setup.issuer.body = b"<html>"
    await setup.pace.next()
    setup.issuer.keys()
    for _ in range(4):
        await setup.pace.next()
    assert setup.pace.pauses == [600, 1, 2, 4, 8, 16, 32, 60, 60]
    assert (await keys.key_for("k1", "ES256")).kid == "k1"
    with pytest.raises(Unavailable):
        await keys.key_for("k2", "ES256")
    setup.issuer.body = body
    await setup.pace.next()
    setup.issuer.status = 500
    await setup.pace.next()
    assert setup.pace.pauses[-2:] == [600, 1]


async def test_issuer_away_at_start(setup: Setup) -> None:
    """The server starts, handshakes are told to come back, and the keys arrive without a restart."""
    setup.issuer.status = 503
    keys = await setup.start()
    verifier = TokenVerifier(keys, now=lambda: NOW)
    signed = jwt.encode(CLAIMS, P256, "ES256", {"kid": "k1"})
    for _ in range(10):
        with pytest.raises(Unavailable) as refused:
            await verifier.verify(signed)
        assert refused.value.retryable
        assert refused.value.retry_after_ms
    assert setup.issuer.requests == 2
    setup.issuer.status = 200
    await setup.pace.next()
    assert (await verifier.verify(signed)).user_id == "ada"


async def test_unreachable_at_start(setup: Setup) -> None:
    """A refused connection is no reason not to start."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        keys = await setup.start(f"http://127.0.0.1:{held.getsockname()[1]}/keys")
        with pytest.raises(Unavailable):
            await keys.key_for("k1", "ES256")


async def test_a_hanging_issuer_is_given_up(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch has a deadline (five seconds, shortened here), and start() with it."""
    assert FETCH_TIMEOUT_SECONDS == 5
    monkeypatch.setattr("auth.jwks.FETCH_TIMEOUT_SECONDS", 0.1)
    setup.issuer.open.clear()
    async with asyncio.timeout(3):
        keys = await setup.start()
        with pytest.raises(Unavailable):
            await keys.key_for("k1", "ES256")


async def test_redirects_are_not_followed(setup: Setup) -> None:
    """The address in the settings is the only one that is asked, lest a redirect choose the keys."""
    setup.issuer.status, setup.issuer.headers = 302, {"Location": setup.url}
    keys = await setup.start()
    assert setup.issuer.requests == 1
    with pytest.raises(Unavailable):
        await keys.key_for("k1", "ES256")


@pytest.mark.parametrize("compressed", [False, True])
async def test_oversize_responses_are_refused(setup: Setup, compressed: bool) -> None:
    """256 KiB are read, a byte more is refused, also when it arrives compressed."""
    setup.issuer.body += b" " * (MAX_RESPONSE_BYTES - len(setup.issuer.body))
    keys = await setup.start()
    assert (await keys.key_for("k1", "ES256")).kid == "k1"
    setup.issuer.body += b" "
    if compressed:
        deflate = zlib.compressobj(wbits=31)
        setup.issuer.body = deflate.compress(setup.issuer.body + b" " * 50_000_000) + deflate.flush()
        setup.issuer.headers = {"Content-Encoding": "gzip"}
    await setup.pace.next()
    assert setup.pace.pauses == [600, 1]


async def test_stop_ends_everything(setup: Setup) -> None:
    """After stop() no task is left, who was waiting is told to come back, and stopping again does no harm."""
    before = asyncio.all_tasks()
    keys = await setup.start()
    setup.issuer.open.clear()
    waiting = asyncio.create_task(keys.key_for("unknown", "ES256"))
    await until(lambda: setup.issuer.requests == 2)
    await keys.stop()
    await keys.stop()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await keys.key_for("unknown", "ES256")
    names = {task.get_name() for task in asyncio.all_tasks() - before}
    assert not names & {"jwks-refresh", "jwks-fetch"}


async def test_a_cancelled_start_leaves_nothing_behind(setup: Setup) -> None:
    """A server that is stopped while it starts does not leave a fetch running."""
    setup.issuer.open.clear()
    starting = asyncio.create_task(setup.start())
    await until(lambda: setup.issuer.requests == 1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert "jwks-fetch" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_an_injected_session_stays_open(setup: Setup) -> None:
    """A session is closed by whoever made it."""
    async with aiohttp.ClientSession() as session:
        keys = await setup.start(session=session)
        assert (await keys.key_for("k1", "ES256")).kid == "k1"
        await keys.stop()
        assert not session.closed


@pytest.mark.parametrize("url", ["", "ftp://id.example/keys", "file:///etc/passwd", "id.example/keys"])
def test_only_http_urls(url: str) -> None:
    """Another kind of address is a mistake in the settings, told at start."""
    with pytest.raises(ValueError, match="https"):
        JwksKeys(url)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 600),
        ("no-store", 600),
        ("max-age=300", 300),
        ("public, MAX-AGE=300, must-revalidate", 300),
        ('max-age="300"', 300),
        ("max-age=0", 60),
        ("max-age=59", 60),
        ("max-age=86400", 3600),
        ("max-age=99999999999999999999", 600),
        ("s-maxage=300", 600),
        ("x-max-age=300", 600),
        ("max-age=-5", 600),
        ("max-age=soon", 600),
    ],
)
def test_when_to_ask_again(header: str, seconds: float) -> None:
    """max-age counts between one minute and an hour; anything else is ten minutes."""
    assert refresh_delay(header) == seconds


@pytest.mark.parametrize(
    "entry",
    [
        jwk(RSA, "k", use="enc"),
        jwk(RSA, "k", alg="RSA-OAEP"),
        jwk(RSA, "k", alg="RS512"),
        jwk(RSA, "k", alg=5),
        jwk(RSA, "k", key_ops=["encrypt"]),
        jwk(RSA, "k", key_ops="verify"),
        jwk(RSA, 5),  # type: ignore[arg-type]
        jwk(RSA, "k", n="AQAB"),
        jwk(RSA, "k", n=5),
        jwk(RSA, "k", e="AA"),
        jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024), "k"),
        jwk(ec.generate_private_key(ec.SECP384R1()), "k"),
        jwk(P256, "k", x="A" * 43),
        jwk(P256, "k", crv=["P-256"]),
        jwk(ED25519, "k", x="AA"),
        jwk(ED25519, "k", crv="X25519"),
        RSAAlgorithm.to_jwk(RSA, as_dict=True),
        ECAlgorithm.to_jwk(P256, as_dict=True),
        {"kty": "oct", "k": "A" * 43},
        {"kty": ["RSA"]},
        {},
        None,
        "key",
    ],
)
def test_unsuitable_keys_are_left_out(entry: object) -> None:
    """Weak, broken, foreign, symmetric, encryption and leaked private keys do not spoil the rest of the set."""
    keys = parse_key_set(json.dumps({"keys": [entry, jwk(P256, "good")]}).encode())
    assert [key.kid for key in keys] == ["good"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys":{}}', b"\xff", b"[" * 100_000, b'{"keys":null}'])
def test_what_is_no_key_set(body: bytes) -> None:
    """A response of another shape is refused as a whole."""
    with pytest.raises(KeySetRefused):
        parse_key_set(body)


def test_key_sets_have_a_bound() -> None:
    """A hundred keys are read, one more is refused."""
    entries = [jwk(P256, str(number)) for number in range(MAX_KEYS)]
    assert len(parse_key_set(json.dumps({"keys": entries}).encode())) == MAX_KEYS
    with pytest.raises(KeySetRefused):
        parse_key_set(json.dumps({"keys": [*entries, None]}).encode())
