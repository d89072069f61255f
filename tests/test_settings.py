"""Settings: what is taken, what is refused, and how the refusal reads."""

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError

from server.settings import Settings, SettingsError, development_secret, load_settings

SECRET = "fit-for-hs256-and-not-for-more-than-that"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "MONGODB_URL": "mongodb://store:27017/?replicaSet=parley",
    "REDIS_URL": "redis://store:6379/0",
    "JWT_SECRET": SECRET,
}


def refusal(environ: Mapping[str, str]) -> str:
    """The message with which this environment is refused."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return str(caught.value)


def pem(key: PublicKeyTypes) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_defaults(tmp_path: Path) -> None:
    """Nothing has to be set in development, and variables of other programs do not matter."""
    settings = load_settings({"DATA_DIR": str(tmp_path), "PATH": "/bin", "EDITOR": "ed", "PORT_RANGE": "x"})
    assert (settings.host, settings.port, settings.environment) == ("127.0.0.1", 3000, "development")
    assert (settings.mongodb_url, settings.redis_url, settings.cors_origins) == (None, None, ())
    assert (settings.ping_interval_ms, settings.ping_timeout_ms, settings.max_payload_bytes) == (25000, 20000, 1000000)
    assert settings.jwt_algorithms == ("HS256", "HS384", "HS512")


def test_all_that_can_be_set() -> None:
    """Lists are split at commas, spaces around values do not matter, and an empty variable is an unset one."""
    settings = load_settings(
        PRODUCTION
        | {"PORT": " 0 ", "CORS_ORIGINS": "https://a.example, http://localhost:5173", "LOG_LEVEL": "WARNING"}
        | {"MONGODB_DB": "chat", "REDIS_PREFIX": "chat", "JWT_ISSUER": "https://id.example", "JWT_AUDIENCE": ""}
    )
    assert (settings.port, settings.log_level, settings.mongodb_db, settings.redis_prefix) == (
        0,
        "warning",
        "chat",
        "chat",
    )
    assert settings.cors_origins == ("https://a.example", "http://localhost:5173")
    assert (settings.jwt_issuer, settings.jwt_audience) == ("https://id.example", None)
    assert (settings.jwt_secret, settings.jwt_algorithms) == (SECRET, ("HS256",))


def test_frozen() -> None:
    """Nothing can change a setting after the start."""
    settings = load_settings({"JWT_SECRET": SECRET})
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "http"),
        ("HOST", "h" * 256),
        ("MONGODB_URL", "http://store"),
        ("MONGODB_URL", "mongodb://"),
        ("MONGODB_DB", "a.b"),
        ("REDIS_URL", "store:6379"),
        ("REDIS_PREFIX", "a*"),
        ("JWKS_URL", "ftp://id.example/keys"),
        ("JWT_ALGORITHMS", "none"),
        ("JWT_ALGORITHMS", "HS256,PS256"),
        ("CORS_ORIGINS", "https://a.example/path"),
        ("CORS_ORIGINS", "a.example"),
        ("LOG_LEVEL", "loud"),
        ("PING_INTERVAL_MS", "30"),
        ("PING_TIMEOUT_MS", "1.5"),
        ("MAX_PAYLOAD_BYTES", "0"),
        ("ENVIRONMENT", "prod"),
    ],
)
def test_each_fault_names_its_variable_and_what_it_takes(variable: str, value: str, tmp_path: Path) -> None:
    """A fault is one line: the variable, what it got, what it takes."""
    message = refusal({"DATA_DIR": str(tmp_path), variable: value})
    assert message.startswith("the settings have 1 fault:\n")
    assert f"{variable}: got " in message
    assert f", takes {Settings.model_fields[variable.lower()].description}" in message
    assert not list(tmp_path.iterdir())


def test_all_faults_at_once() -> None:
    """Whoever repairs an environment sees the whole of it: each field, the keys, and what production refuses."""
    message = refusal(
        {"ENVIRONMENT": "production", "PORT": "x", "LOG_LEVEL": "loud", "CORS_ORIGINS": "*", "PING_TIMEOUT_MS": "0"}
        | {"JWT_SECRET": "short", "JWKS_URL": "https://id.example/keys"}
    )
    named = {line.strip().split(":")[0] for line in message.splitlines()[1:]}
    assert named == {
        *("PORT", "LOG_LEVEL", "CORS_ORIGINS", "PING_TIMEOUT_MS", "MONGODB_URL", "REDIS_URL"),
        *("JWT_SECRET", "JWT_SECRET, JWKS_URL"),
    }


@pytest.mark.parametrize(
    ("change", "variable"),
    [
        ({"JWT_SECRET": ""}, "JWT_SECRET: not set"),
        ({"JWT_SECRET": "x" * 31}, "JWT_SECRET: got 31 bytes"),
        ({"CORS_ORIGINS": "https://a.example,*"}, "CORS_ORIGINS: got *"),
        ({"MONGODB_URL": ""}, "MONGODB_URL: not set"),
        ({"REDIS_URL": ""}, "REDIS_URL: not set"),
    ],
)
def test_production_refuses_what_development_forgives(change: dict[str, str], variable: str) -> None:
    """No default secret, no weak one, no wildcard origin and no embedded store in production."""
    message = refusal(PRODUCTION | change)
    assert message.startswith(f"the settings have 1 fault:\n  {variable}, takes ")


def test_no_secret_in_messages_nor_in_repr() -> None:
    """Neither a refusal nor a printed Settings shows a secret or a password, also not one in the wrong variable."""
    secret = "hunter2"
    for variable in ("JWT_SECRET", "JWT_PUBLIC_KEY", "MONGODB_URL", "REDIS_URL", "JWKS_URL"):
        for value in (secret, f"http:/{secret}", f"x://u:{secret}@h"):
            assert secret not in refusal({variable: value})
    settings = load_settings(PRODUCTION | {"MONGODB_URL": f"mongodb://user:{secret}@store/", "JWT_SECRET": secret * 5})
    assert secret not in repr(settings)
    assert secret not in str(settings)


@pytest.mark.parametrize(
    ("length", "algorithms"), [(32, ("HS256",)), (48, ("HS256", "HS384")), (64, ("HS256", "HS384", "HS512"))]
)
def test_algorithms_follow_the_length_of_the_secret(length: int, algorithms: tuple[str, ...]) -> None:
    """By default a secret serves the algorithms that it is long enough for (RFC 7518, 3.2)."""
    assert load_settings({"JWT_SECRET": "x" * length}).jwt_algorithms == algorithms


def test_a_secret_too_short_for_the_algorithm_asked_for() -> None:
    """HS512 with a secret that is only good for HS256 is refused at start."""
    assert "HS512 needs at least 64 bytes" in refusal({"JWT_SECRET": "x" * 40, "JWT_ALGORITHMS": "HS256,HS512"})


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa.generate_private_key(65537, 2048).public_key(), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()).public_key(), "ES256"),
        (ed25519.Ed25519PrivateKey.generate().public_key(), "EdDSA"),
    ],
)
def test_public_key_as_text_and_as_file(key: PublicKeyTypes, algorithm: str, tmp_path: Path) -> None:
    """A public key comes as PEM, as PEM on one line, or as a path; its type decides on the algorithm."""
    text = pem(key)
    file = tmp_path / "key.pem"
    file.write_text(text)
    for value in (text, text.replace("\n", "\\n"), str(file)):
        settings = load_settings({"JWT_PUBLIC_KEY": value})
        assert settings.jwt_public_key is not None
        assert settings.jwt_public_key.strip() == text.strip()
        assert (settings.jwt_secret, settings.jwt_algorithms) == (None, (algorithm,))


def test_public_keys_refused() -> None:
    """A private key, a key too weak and a key for another algorithm are refused with the reason."""
    private = ec.generate_private_key(ec.SECP256R1())
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert "BEGIN PUBLIC KEY" in refusal({"JWT_PUBLIC_KEY": text})
    assert text.splitlines()[1] not in refusal({"JWT_PUBLIC_KEY": text})
    weak = pem(rsa.generate_private_key(65537, 1024).public_key())
    assert "2048 bits" in refusal({"JWT_PUBLIC_KEY": weak})
    assert "ES256" in refusal({"JWT_PUBLIC_KEY": pem(private.public_key()), "JWT_ALGORITHMS": "RS256"})
    assert "No such file" in refusal({"JWT_PUBLIC_KEY": "/nowhere/key.pem"})


def test_families_never_mix() -> None:
    """HMAC algorithms are refused with public keys and the other way round, or a public key could serve as a secret."""
    keys = {"JWKS_URL": "https://id.example/keys"}
    assert load_settings(keys).jwt_algorithms == ("ES256", "EdDSA", "RS256")
    assert load_settings(keys | {"JWT_ALGORITHMS": "ES256"}).jwt_algorithms == ("ES256",)
    assert "JWT_ALGORITHMS: got HS256" in refusal(keys | {"JWT_ALGORITHMS": "HS256,RS256"})
    assert "JWT_ALGORITHMS: got RS256" in refusal({"JWT_SECRET": SECRET, "JWT_ALGORITHMS": "HS256,RS256"})
    assert "JWT_ALGORITHMS: got EdDSA" in refusal({"JWT_ALGORITHMS": "EdDSA"})


def test_development_secret_is_made_once(tmp_path: Path) -> None:
    """The secret of a data directory is random, for the owner's eyes alone, and the same at the next start."""
    home = tmp_path / "new" / "data"
    first = load_settings({"DATA_DIR": str(home)}).jwt_secret
    assert first is not None
    assert len(first) >= 64
    file = home / "jwt-secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(home.iterdir()) == [file]
    assert development_secret(home) == first == load_settings({"DATA_DIR": str(home)}).jwt_secret
    assert development_secret(tmp_path / "other") != first


def test_development_secret_that_cannot_be_kept(tmp_path: Path) -> None:
    """A data directory that is a file, and a secret file that somebody emptied, end in one sentence."""
    file = tmp_path / "file"
    file.touch()
    assert "DATA_DIR" in refusal({"DATA_DIR": str(file)})
    (tmp_path / "jwt-secret").touch()
    assert "delete it" in refusal({"DATA_DIR": str(tmp_path)})


def test_one_moderation_hook_at_most() -> None:
    """Either a webhook or a function; the webhook's address may hold a secret and is never shown."""
    webhook, hook = {"MODERATION_WEBHOOK": "https://mod.example/s3cret"}, {"MODERATION_HOOK": "chat.filter:check"}
    settings = load_settings(PRODUCTION | webhook)
    assert (settings.moderation_webhook, settings.moderation_fail_open) == ("https://mod.example/s3cret", "on")
    assert "s3cret" not in repr(settings)
    assert load_settings(PRODUCTION | hook | {"MODERATION_FAIL_OPEN": "OFF"}).moderation_fail_open == "off"
    assert "MODERATION_WEBHOOK, MODERATION_HOOK: got both" in refusal(PRODUCTION | webhook | hook)
    message = refusal(
        PRODUCTION
        | {"MODERATION_WEBHOOK": "ftp://mod.example/s3cret", "MODERATION_HOOK": "chat", "MODERATION_FAIL_OPEN": "maybe"}
    )
    assert "s3cret" not in message
    assert all(name in message for name in ("MODERATION_WEBHOOK: got", "MODERATION_HOOK: got", "MODERATION_FAIL_OPEN"))
