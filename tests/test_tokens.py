"""Tokens: what is accepted, what is refused and with which code (wire contract, section 1; RFC 8725)."""

import hashlib
import hmac
import json
import string
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth.keys import PUBLIC_KEY_ALGORITHMS, StaticKeys
from auth.tokens import MAX_TOKEN_BYTES, TokenVerifier, issue_token
from protocol.errors import AuthRequired, TokenExpired, TokenInvalid

SECRET = "a-secret-of-32-bytes-for-testing"
NOW = 1_800_000_000.0
CLAIMS: dict[str, object] = {"sub": "ada", "exp": NOW + 60}

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ED448 = ed448.Ed448PrivateKey.generate()
SIGNERS: list[tuple[str, Any]] = [("RS256", RSA), ("ES256", P256), ("EdDSA", ED25519), ("EdDSA", ED448)]


def pem(private_key: Any) -> bytes:
    public: bytes = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def hs256(signing_input: bytes, secret: bytes = SECRET.encode()) -> bytes:
    return hmac.new(secret, signing_input, hashlib.sha256).digest()


def compact(header: object, claims: object, sign: Callable[[bytes], bytes] = hs256, encoding: str = "utf-8") -> str:
    """A token by hand, as no library would make it."""
    parts = ".".join(b64(json.dumps(part).encode(encoding)) for part in (header, claims))
    return f"{parts}.{b64(sign(parts.encode()))}"


def token(**claims: object) -> str:
    return compact({"alg": "HS256"}, CLAIMS | claims)


def verifier(**settings: Any) -> TokenVerifier:
    return TokenVerifier(StaticKeys.from_secret(SECRET), now=lambda: NOW, **settings)


async def test_a_token_becomes_a_caller() -> None:
    """Every claim that handlers need arrives in the Caller, times in UTC."""
    caller = await verifier().verify(token(iat=NOW - 1, jti="t1", name="Ada", avatar="https://a.example/a.png"))
    assert caller.user_id == "ada"
    assert caller.scopes == {"user"}
    assert caller.expires_at == datetime.fromtimestamp(NOW + 60, UTC)
    assert caller.issued_at == datetime.fromtimestamp(NOW - 1, UTC)
    assert (caller.token_id, caller.name, caller.avatar) == ("t1", "Ada", "https://a.example/a.png")


async def test_optional_claims_may_be_absent() -> None:
    """Only sub and exp are required; without iat a token counts as issued at 0."""
    caller = await verifier().verify(token())
    assert caller.issued_at == datetime.fromtimestamp(0, UTC)
    assert (caller.token_id, caller.name, caller.avatar) == (None, None, None)


@pytest.mark.parametrize("absent", [None, ""])
async def test_an_absent_token_is_required(absent: object) -> None:
    """No token is AUTH_REQUIRED, which front-ends treat as not signed in."""
    with pytest.raises(AuthRequired):
        await verifier().verify(absent)


@pytest.mark.parametrize("junk", [0, 1.5, True, [], {}, {"$ne": None}, b"a.b.c", ["a.b.c"]])
async def test_a_token_that_is_no_string_is_invalid(junk: object) -> None:
    """Whatever JSON a client sends as its token, the answer is TOKEN_INVALID."""
    with pytest.raises(TokenInvalid):
        await verifier().verify(junk)


NO_TIMES: list[object] = [True, "1900000000", None, [], -1, 1e300, NOW * 1000]
MALFORMED: dict[str, list[object]] = {
    "sub": ["", "a" * 65, "a b", "ada\n", "@ada", "é", "a/b", 5, None, ["ada"], {"$ne": ""}],
    "exp": NO_TIMES,
    "iat": NO_TIMES,
    "nbf": NO_TIMES,
    "scope": [5, True, {"user": True}, [1], [["admin"]]],
    "jti": ["", 5, ["a"], "j" * 257],
}


@pytest.mark.parametrize(("claim", "value"), [(claim, value) for claim in MALFORMED for value in MALFORMED[claim]])
async def test_a_malformed_claim_is_invalid(claim: str, value: object) -> None:
    """A claim that decides something and is of the wrong shape refuses the token, never guesses."""
    with pytest.raises(TokenInvalid) as refused:
        await verifier().verify(token(**{claim: value}))
    assert not isinstance(refused.value, TokenExpired)


@pytest.mark.parametrize("claim", ["sub", "exp"])
async def test_required_claims(claim: str) -> None:
    """RFC 8725, 3.8: a token without subject or without end is not accepted."""
    with pytest.raises(TokenInvalid):
        await verifier().verify(
            compact({"alg": "HS256"}, {name: value for name, value in CLAIMS.items() if name != claim})
        )


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400])
async def test_times_that_are_no_numbers(literal: str) -> None:
    """NaN compares false with everything and must not become a token without end."""
    payload = f'{{"sub":"ada","exp":{literal}}}'.encode()
    signing_input = ".".join((b64(b'{"alg":"HS256"}'), b64(payload)))
    with pytest.raises(TokenInvalid):
        await verifier().verify(f"{signing_input}.{b64(hs256(signing_input.encode()))}")


async def test_expiry_has_no_leeway() -> None:
    """RFC 7519, 4.1.4: on exp and after it the token has expired, a moment before it has not; fractions count."""
    await verifier().verify(token(exp=NOW + 0.001))
    for exp in (NOW, NOW - 0.001, int(NOW), 0):
        with pytest.raises(TokenExpired):
            await verifier().verify(token(exp=exp))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_issuers_clocks_may_run_five_seconds_ahead(claim: str) -> None:
    """iat and nbf have 5 s of leeway, and beyond it the token is not yet good."""
    await verifier().verify(token(**{claim: NOW + 5}))
    with pytest.raises(TokenInvalid):
        await verifier().verify(token(**{claim: NOW + 5.5}))


async def test_expired_is_said_only_of_tokens_that_are_otherwise_good() -> None:
    """TOKEN_EXPIRED sends a client for a fresh token, so neither forgeries nor foreign tokens may cause it."""
    forged = compact({"alg": "HS256"}, CLAIMS | {"exp": 1}, lambda data: hs256(data, b"x" * 32))
    foreign = token(exp=1, aud="other")
    for refused in (forged, foreign):
        with pytest.raises(TokenInvalid) as info:
            await verifier(audience="parley").verify(refused)
        assert not isinstance(info.value, TokenExpired)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (None, {"user"}),
        ("", {"user"}),
        ([], {"user"}),
        ("user", {"user"}),
        ("service", {"service"}),
        ("openid  service profile", {"service"}),
        (["user", "service"], {"user", "service"}),
        ("admin", {"admin", "service"}),
        (["admin", "user"], {"admin", "service", "user"}),
        ("openid Admin administrator", {"user"}),
    ],
)
async def test_scopes(scope: object, expected: set[str]) -> None:
    """A list or words; unknown ones are ignored, user is the default, admin includes service."""
    assert (await verifier().verify(token(scope=scope))).scopes == expected


@pytest.mark.parametrize("value", [5, "", "   ", "a\x00b", "a\nb", "\x1b[31m", "a\x85b", "n" * 2001, ["Ada"], {}])
async def test_a_malformed_profile_claim_is_dropped(value: object) -> None:
    """A strange name or avatar locks nobody out; it just does not show."""
    caller = await verifier().verify(token(name=value, avatar=value))
    assert (caller.name, caller.avatar) == (None, None)


async def test_profile_bounds() -> None:
    """Names up to 200 characters and avatars up to 2,000 are taken."""
    caller = await verifier().verify(token(name="é" * 200, avatar="a" * 2000))
    assert (caller.name, caller.avatar) == ("é" * 200, "a" * 2000)
    assert (await verifier().verify(token(name="é" * 201))).name is None


async def test_issuer_and_audience_when_configured() -> None:
    """RFC 8725, 3.8 and 3.9: with both configured, only tokens of that issuer for this audience pass."""
    strict = verifier(issuer="https://id.example", audience="parley")
    for aud in ("parley", ["other", "parley"]):
        await strict.verify(token(iss="https://id.example", aud=aud))
    refused: list[tuple[object, object]] = [
        ("https://id.example/", "parley"),
        (None, "parley"),
        (["https://id.example"], "parley"),
        ("https://id.example", None),
        ("https://id.example", []),
        ("https://id.example", "parley2"),
        ("https://id.example", "other parley"),
        ("https://id.example", {"parley": 1}),
    ]
    for issuer, audience in refused:
        with pytest.raises(TokenInvalid):
            await strict.verify(token(iss=issuer, aud=audience))
    with pytest.raises(TokenInvalid):
        await strict.verify(token())


async def test_issuer_and_audience_are_ignored_unless_configured() -> None:
    """Without the setting a token is not refused for saying whom it is for."""
    await verifier().verify(token(iss="https://id.example", aud=["other"]))


@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS512", "HS384", "RS256", "hs256", None, 5, [], ["HS256"]])
async def test_only_the_configured_algorithms(algorithm: object) -> None:
    """RFC 8725, 3.1 and 3.2: the server decides the algorithm, and none is not one, with or without a signature."""
    for sign in (hs256, lambda _: b""):
        with pytest.raises(TokenInvalid):
            await verifier().verify(compact({"alg": algorithm}, CLAIMS, sign))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["b64"], "b64": True},
        {"crit": []},
        {"crit": ["exp"]},
        {"kid": 5},
        {"kid": ["a"]},
        {"typ": "logout+jwt"},
        {"typ": "secevent+jwt"},
        {"typ": 5},
        {"typ": None},
    ],
)
async def test_headers_that_are_refused(header: dict[str, object]) -> None:
    """RFC 7515, 4.1.11 and RFC 8725, 3.11: critical extensions, and tokens made for another purpose."""
    with pytest.raises(TokenInvalid):
        await verifier().verify(compact({"alg": "HS256"} | header, CLAIMS))


@pytest.mark.parametrize("token_type", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_types_that_are_accepted(token_type: str) -> None:
    """A plain JWT and an OAuth access token (RFC 9068) are what a handshake carries."""
    await verifier().verify(compact({"alg": "HS256", "typ": token_type, "kid": "any"}, CLAIMS))


async def test_keys_in_the_header_are_not_followed() -> None:
    """RFC 8725, 3.10: a key that the token brings along, or the address of one, proves nothing."""
    mallory = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    header = {
        "jwk": jwt.algorithms.RSAAlgorithm.to_jwk(mallory.public_key(), as_dict=True),
        "jku": "http://127.0.0.1:9/keys",
        "x5u": "http://127.0.0.1:9/cert",
        "x5c": ["MIIB"],
        "kid": "../../dev/null' OR 1=1",
    }
    verifying = TokenVerifier(StaticKeys.from_pem(pem(RSA)), now=lambda: NOW)
    with pytest.raises(TokenInvalid):
        await verifying.verify(jwt.encode(CLAIMS, mallory, "RS256", header))
    await verifying.verify(jwt.encode(CLAIMS, RSA, "RS256", header))


@pytest.mark.parametrize(("algorithm", "private_key"), SIGNERS)
async def test_public_key_algorithms(algorithm: str, private_key: Any) -> None:
    """Each kind of public key verifies its own tokens, and nothing signed by another of its kind or kin."""
    keys = StaticKeys.from_pem(pem(private_key).decode())
    assert keys.algorithms == {algorithm}
    verifying = TokenVerifier(keys, now=lambda: NOW)
    good = jwt.encode(CLAIMS, private_key, algorithm)
    assert (await verifying.verify(good)).user_id == "ada"
    others = [jwt.encode(CLAIMS, key, name) for name, key in SIGNERS if key is not private_key]
    for refused in [*others, token(), good[:-8] + "AAAAAAAA", good.rsplit(".", 1)[0] + "."]:
        with pytest.raises(TokenInvalid):
            await verifying.verify(refused)


@pytest.mark.parametrize(("algorithm", "private_key"), SIGNERS)
async def test_algorithm_confusion(algorithm: str, private_key: Any) -> None:
    """RFC 8725, 2.1: a public key is no secret, neither when a token pretends so nor in the settings."""
    public = pem(private_key)
    forms = [
        public,
        public.strip(),
        private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ]
    verifying = TokenVerifier(StaticKeys.from_pem(public), now=lambda: NOW)
    for form in forms:
        for name in ("HS256", algorithm):
            forged = compact({"alg": name}, CLAIMS, lambda data, form=form: hs256(data, form))  # type: ignore[misc]
            with pytest.raises(TokenInvalid):
                await verifying.verify(forged)
    with pytest.raises(ValueError, match="public key"):
        StaticKeys.from_secret(public)


async def test_an_ecdsa_signature_of_zeros() -> None:
    """RFC 8725, 3.4: r = s = 0 once satisfied careless verifiers for any message."""
    verifying = TokenVerifier(StaticKeys.from_pem(pem(P256)), now=lambda: NOW)
    for signature in (bytes(64), bytes(63), bytes(65), b"\xff" * 64):
        with pytest.raises(TokenInvalid):
            await verifying.verify(compact({"alg": "ES256"}, CLAIMS, lambda _, signature=signature: signature))  # type: ignore[misc]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
async def test_only_utf8(encoding: str) -> None:
    """RFC 8725, 3.7: JSON in another encoding is refused, not guessed."""
    with pytest.raises(TokenInvalid):
        await verifier().verify(compact({"alg": "HS256"}, CLAIMS, encoding=encoding))


@pytest.mark.parametrize("payload", [None, [], "ada", 5, [CLAIMS], "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"])
async def test_a_payload_that_is_no_object(payload: object) -> None:
    """A signed list, string or nested token carries no claims."""
    with pytest.raises(TokenInvalid):
        await verifier().verify(compact({"alg": "HS256"}, payload))


async def test_the_form_of_a_token() -> None:
    """Five parts (RFC 8725, 3.6: JWE), padding, foreign letters, stray bits and white space are refused."""
    good = token()
    await verifier().verify(good)
    head, body, signature = good.split(".")
    last = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    stray = signature[:-1] + last[last.index(signature[-1]) + 1]
    for bad in (
        f"{head}.{body}",
        f"{head}.{body}.",
        f"{head}..{signature}",
        f".{body}.{signature}",
        f"{good}.{head}.{body}",
        f"{good}=",
        f"{head}.{body}.{stray}",
        f" {good}",
        f"{good}\n",
        f"{head}.{body}.{signature[:5]}+/{signature[7:]}",
        f"{head}.{body}!.{signature}",
        f"{head}.{body}.{signature}é",
        f"{good}\ud800",
        f"Bearer {good}",
    ):
        with pytest.raises(TokenInvalid):
            await verifier().verify(bad)


async def test_every_changed_letter_is_noticed() -> None:
    """A token with any one letter changed is another token."""
    good = token()
    for place, letter in enumerate(good):
        changed = good[:place] + ("A" if letter != "A" else "B") + good[place + 1 :]
        with pytest.raises(TokenInvalid):
            await verifier().verify(changed)


async def test_tokens_have_a_bound() -> None:
    """8 KiB are read, a byte more is refused, however well signed."""
    filler = MAX_TOKEN_BYTES
    while len(large := token(filler="f" * filler)) > MAX_TOKEN_BYTES:
        filler -= 1
    assert len(large) > MAX_TOKEN_BYTES - 3
    await verifier().verify(large)
    with pytest.raises(TokenInvalid, match="longer"):
        await verifier().verify(token(filler="f" * (filler + 3)))


async def test_deep_nesting_is_invalid() -> None:
    """JSON nested as deep as the bound allows is answered, not a crash."""
    deep = b64(b'{"a":' * 980 + b"1" + b"}" * 980)
    header = b64(b'{"alg":"HS256"}')
    for parts in (f"{deep}.e30", f"{header}.{deep}", f"{header}.{b64(b'[' * 5000)}"):
        with pytest.raises(TokenInvalid):
            await verifier().verify(f"{parts}.{b64(hs256(parts.encode()))}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
# A shared machine may be slow; that is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
claim_names = st.sampled_from(["sub", "exp", "iat", "nbf", "iss", "aud", "scope", "name", "avatar", "jti"])


def outcome(junk: object) -> None:
    """Run a verification without a loop: with static keys it never waits. Only the tree's errors may leave it."""
    try:
        verifier(issuer="i", audience="a").verify(junk).send(None)
    except (AuthRequired, TokenInvalid, StopIteration):
        return
    raise AssertionError("a verification with static keys must not wait")


@unhurried
@given(st.text(max_size=300) | json_values | st.from_regex(r"\A[\w-]{0,80}\.[\w-]{0,80}\.[\w-]{0,80}\Z"))
def test_junk_never_raises_anything_else(junk: object) -> None:
    """Random text, JSON and things shaped like tokens end in the tree's errors, and never wait."""
    outcome(junk)


@unhurried
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), json_values, max_size=4),
    st.dictionaries(claim_names, json_values, max_size=6),
)
def test_signed_junk_never_raises_anything_else(header: dict[str, object], claims: dict[str, object]) -> None:
    """The same with a good signature, so that every claim check sees every shape."""
    outcome(compact({"alg": "HS256"} | header, claims))
    outcome(compact({"alg": "HS256"}, {"sub": "ada", "exp": NOW + 1, "iss": "i", "aud": "a"} | claims))


@unhurried
@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=64))
def test_binary_junk_never_raises_anything_else(header: bytes, payload: bytes, signature: bytes) -> None:
    """Random bytes in the three parts are no crash either."""
    outcome(f"{b64(header)}.{b64(payload)}.{b64(signature)}")
    signing_input = f"{b64(json.dumps({'alg': 'HS256'}).encode())}.{b64(payload)}"
    outcome(f"{signing_input}.{b64(hs256(signing_input.encode()))}")


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
async def test_hmac_secrets_have_the_length_of_the_hash(algorithm: str, least: int) -> None:
    """RFC 7518, 3.2 and RFC 8725, 3.5: a shorter secret is refused at start, with the length it needs."""
    with pytest.raises(ValueError, match=f"{algorithm} needs at least {least} bytes, this one has {least - 1}"):
        StaticKeys.from_secret("s" * (least - 1), [algorithm])
    secret = "é" * (least // 2)
    keys = StaticKeys.from_secret(secret, [algorithm])
    signed = jwt.encode(CLAIMS, secret, algorithm)
    assert (await TokenVerifier(keys, now=lambda: NOW).verify(signed)).user_id == "ada"


def test_weak_or_foreign_public_keys() -> None:
    """RFC 8725, 3.5: RSA below 2,048 bits, other curves, private keys and no keys at all are refused at start."""
    private_pem = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="2048 bits, this one has 1024"):
        StaticKeys.from_pem(pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)))
    with pytest.raises(ValueError, match="curve P-256, this one is on secp384r1"):
        StaticKeys.from_pem(pem(ec.generate_private_key(ec.SECP384R1())))
    for junk in (private_pem, b"", "no key", b"\xff"):
        with pytest.raises(ValueError, match="BEGIN PUBLIC KEY"):
            StaticKeys.from_pem(junk)


def test_algorithms_are_of_one_family() -> None:
    """A secret serves HMAC only and a public key never does, so that no key can be taken for the other kind."""
    for names in ([], ["none"], ["HS256", "RS256"], ["RS256"], ["hs256"]):
        with pytest.raises(ValueError, match="algorithms for this kind of key"):
            StaticKeys.from_secret("s" * 64, names)
    for names in ([], ["none"], ["HS256"], ["RS256", "HS256"], ["RS512"]):
        with pytest.raises(ValueError, match="algorithms for this kind of key"):
            StaticKeys.from_pem(pem(RSA), names)
    with pytest.raises(ValueError, match="is one for RS256"):
        StaticKeys.from_pem(pem(RSA), ["ES256", "EdDSA"])
    assert StaticKeys.from_pem(pem(RSA), PUBLIC_KEY_ALGORITHMS).algorithms == {"RS256"}


def test_keys_do_not_show_their_secret() -> None:
    """A key that ends in a log or traceback shows its algorithm only."""
    assert SECRET not in repr(StaticKeys.from_secret(SECRET).__dict__)


async def test_issued_tokens_verify() -> None:
    """What issue_token makes, the verifier takes, with each claim in its place."""
    issued = issue_token(
        "ada", secret=SECRET, ttl_seconds=60, now=NOW, scopes=("user", "admin"), issuer="i", audience="a", name="Ada"
    )
    caller = await verifier(issuer="i", audience="a").verify(issued)
    assert (caller.user_id, caller.name) == ("ada", "Ada")
    assert caller.scopes == {"user", "admin", "service"}
    assert caller.expires_at.timestamp() == NOW + 60
    assert caller.issued_at.timestamp() == NOW
    assert caller.token_id


async def test_issued_tokens_live_at_least_their_ttl() -> None:
    """A fraction of a second is rounded in the holder's favour, and two tokens never share a jti."""
    first, second = (issue_token("ada", secret=SECRET, ttl_seconds=0.5, now=NOW + 0.7) for _ in range(2))
    assert first != second
    assert (await verifier().verify(first)).expires_at.timestamp() == NOW + 2


def test_issue_token_refuses_what_would_not_verify() -> None:
    """A token that no server would take is not made."""
    good: dict[str, Any] = {"user_id": "ada", "secret": SECRET, "ttl_seconds": 1, "now": NOW}
    faults: dict[str, dict[str, Any]] = {
        "user id": {"user_id": "a b"},
        "scopes are": {"scopes": ["root"]},
        "algorithms": {"algorithm": "none"},
        "at least 32 bytes": {"secret": "short"},
    }
    for complaint, fault in faults.items():
        with pytest.raises(ValueError, match=complaint):
            issue_token(**(good | fault))
