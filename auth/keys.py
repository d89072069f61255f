"""Keys that verify tokens, each bound to the one algorithm that it may be used with (RFC 8725, 3.1 and 3.2)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import InvalidKeyError

from protocol.errors import TokenInvalid

HMAC_MIN_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518, 3.2: a secret is at least as long as the hash."""

HMAC_ALGORITHMS = frozenset(HMAC_MIN_BYTES)
PUBLIC_KEY_ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})
RSA_MIN_BITS = 2048

_IMPLEMENTATIONS = {
    name: implementation
    for name, implementation in get_default_algorithms().items()
    if name in HMAC_ALGORITHMS | PUBLIC_KEY_ALGORITHMS
}

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that was checked and prepared once, and its algorithm. `kid` is its name in a key set, if it has one."""

    algorithm: str
    material: bytes | PublicKey = field(repr=False)
    kid: str | None = None

    def fits(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether `signature` was made over `signing_input` with this key; HMACs are compared in constant time."""
        return _IMPLEMENTATIONS[self.algorithm].verify(signing_input, self.material, signature)


class KeySource(Protocol):
    """Where a verifier gets its keys, and the only algorithms that it accepts with them."""

    @property
    def algorithms(self) -> frozenset[str]:
        """Never both HMAC and public-key ones, or a public key could serve as a secret."""
        ...

    async def key_for(self, kid: str | None, algorithm: str) -> VerificationKey:
        """The key that a token with this header must be signed with.

        Raises:
            TokenInvalid: there is none.
            Unavailable: the keys could not be fetched.
        """
        ...


class StaticKeys:
    """A secret or a public key from the settings. A token's `kid` is ignored: there is nothing to choose from."""

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self._keys = {key.algorithm: key for key in keys}
        self.algorithms = frozenset(self._keys)

    @classmethod
    def from_secret(cls, secret: str | bytes, algorithms: Iterable[str] = ("HS256",)) -> "StaticKeys":
        """Keys of a shared secret, one for each HMAC algorithm.

        Raises:
            ValueError: the secret is shorter than an algorithm's hash, or is itself a public key, certificate or JWK.
        """
        names = allowed(algorithms, HMAC_ALGORITHMS)
        return cls(_hmac_key(secret, name) for name in names)

    @classmethod
    def from_pem(cls, pem: str | bytes, algorithms: Iterable[str] = PUBLIC_KEY_ALGORITHMS) -> "StaticKeys":
        """One public key in PEM, accepted with the algorithm of its type, which must be among `algorithms`.

        Raises:
            ValueError: it is no public key, is too weak, or its algorithm is not allowed.
        """
        names = allowed(algorithms, PUBLIC_KEY_ALGORITHMS)
        try:
            key = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError('the public key must be PEM text that begins with "-----BEGIN PUBLIC KEY-----"') from None
        verification_key = public_key(key)
        if verification_key.algorithm not in names:
            raise ValueError(f"the public key is one for {verification_key.algorithm}, which is not among {names}")
        return cls([verification_key])

    async def key_for(self, kid: str | None, algorithm: str) -> VerificationKey:
        """The key of this algorithm; never waits.

        Raises:
            TokenInvalid: there is none.
        """
        try:
            return self._keys[algorithm]
        except KeyError:
            raise TokenInvalid("the token's algorithm is not accepted") from None


def allowed(algorithms: Iterable[str], family: frozenset[str]) -> list[str]:
    """The algorithms as a sorted list.

    Raises:
        ValueError: there are none, or one is not of this family.
    """
    names = sorted(set(algorithms))
    if not names or not family.issuperset(names):
        raise ValueError(f"algorithms for this kind of key are {sorted(family)}, got {names}")
    return names


def public_key(key: object, kid: str | None = None) -> VerificationKey:
    """Bind a public key to the algorithm of its type: RSA to RS256, P-256 to ES256, Ed25519 and Ed448 to EdDSA.

    Raises:
        ValueError: it is of another type or curve, or an RSA key of fewer than 2,048 bits.
    """
    match key:
        case RSAPublicKey():
            if key.key_size < RSA_MIN_BITS:
                raise ValueError(f"an RSA key needs at least {RSA_MIN_BITS} bits, this one has {key.key_size}")
            return VerificationKey("RS256", key, kid)
        case EllipticCurvePublicKey():
            if not isinstance(key.curve, SECP256R1):
                raise ValueError(f"ES256 needs a key on the curve P-256, this one is on {key.curve.name}")
            return VerificationKey("ES256", key, kid)
        case Ed25519PublicKey() | Ed448PublicKey():
            return VerificationKey("EdDSA", key, kid)
        case _:
            raise ValueError("the public key must be of type RSA, EC (P-256), Ed25519 or Ed448")


def _hmac_key(secret: str | bytes, algorithm: str) -> VerificationKey:
    material = secret.encode() if isinstance(secret, str) else secret
    least = HMAC_MIN_BYTES[algorithm]
    if len(material) < least:
        raise ValueError(f"the secret for {algorithm} needs at least {least} bytes, this one has {len(material)}")
    try:
        _IMPLEMENTATIONS[algorithm].prepare_key(material)
    except InvalidKeyError:
        raise ValueError("the secret is a public key, certificate or JWK, which others may know") from None
    return VerificationKey(algorithm, material)
