"""Settings: read once from the environment, checked at start, frozen (wire contract, section 8)."""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from auth.keys import HMAC_MIN_BYTES, PUBLIC_KEY_ALGORITHMS, StaticKeys
from realtime.limits import Limits
from server.redis_url import parse_redis_url

SECRET_MIN_BYTES = min(HMAC_MIN_BYTES.values())
SHOWN_MAX_CHARACTERS = 80
PEM_FILE_MAX_BYTES = 64 * 1024

_SECRET_FIELDS = frozenset({"jwt_secret", "jwt_public_key"})
_KEY_FIELDS = ("jwt_secret", "jwt_public_key", "jwks_url")
_ALGORITHMS = (*HMAC_MIN_BYTES, *sorted(PUBLIC_KEY_ALGORITHMS))
_SECRET_TAKES = f"a random secret of at least {SECRET_MIN_BYTES} bytes, such as the output of `openssl rand -base64 48`"


class SettingsError(Exception):
    """The environment cannot be used; the message lists every fault, for people, and holds no secret."""


def _url(*schemes: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not (parts.hostname or (parts.scheme == "unix" and parts.path)):
            raise ValueError("is no such address")
        return value

    return check


def _redis_url(value: str) -> str:
    parse_redis_url(value)
    return value


def _origin(value: str) -> str:
    if value != "*" and not re.fullmatch(
        r"https?://[A-Za-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?", value
    ):
        raise ValueError("is no origin")
    return value


def _words(value: Any) -> Any:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Name = StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,63}$")
Origin = Annotated[str, AfterValidator(_origin)]
Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"]


class Settings(BaseSettings):
    """Everything that an operator can set; each field is the variable of the same name in capitals.

    The descriptions say what a variable takes: they are the help text, and the second half of a fault's message.
    `jwt_secret`, `jwt_public_key` (PEM text) and `jwks_url`: exactly one is set. `jwt_algorithms` fits it.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", min_length=1, max_length=255, description="an address or host name to listen on")
    port: int = Field(3000, ge=0, le=65535, description="a port number from 0 to 65535, 0 for any free one")
    data_dir: Path = Field(Path(".parley"), description="a directory for the data of the embedded servers")
    mongodb_url: Annotated[str, AfterValidator(_url("mongodb", "mongodb+srv"))] | None = Field(
        None, repr=False, description="mongodb://host:port/?replicaSet=name of a replica set; unset: embedded"
    )
    mongodb_db: Annotated[str, Name] = Field("parley", description="a database name out of A-Z a-z 0-9 _ -")
    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = Field(
        None,
        repr=False,
        description="redis://host:port/0 of a Redis or Valkey, redis+sentinel://host:port,host:port/service, or "
        "redis+cluster://host:port,host:port, each with rediss for TLS; unset: embedded",
    )
    redis_prefix: Annotated[str, Name] = Field("parley", description="a key prefix out of A-Z a-z 0-9 _ -")
    jwt_secret: str | None = Field(None, repr=False, description=_SECRET_TAKES)
    jwt_public_key: str | None = Field(None, repr=False, description="a public key in PEM, or the path of its file")
    jwks_url: Annotated[str, AfterValidator(_url("https", "http"))] | None = Field(
        None, repr=False, description="the http(s):// address of a JSON Web Key Set"
    )
    jwt_algorithms: Annotated[tuple[Algorithm, ...], BeforeValidator(_words)] = Field(
        (), description=f"a comma-separated list out of {', '.join(_ALGORITHMS)}; unset: what fits the key"
    )
    jwt_issuer: str | None = Field(None, description="the `iss` that tokens must have; unset: any")
    jwt_audience: str | None = Field(None, description="the `aud` that tokens must have; unset: any")
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_words)] = Field(
        (), description="a comma-separated list of origins, https://host[:port] each, or * for any; unset: same origin"
    )
    presence_open: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = Field(
        "off", description="on or off: whether people who share no room may see each other come and go"
    )
    public_docs: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = Field(
        "off", description="on or off: whether production serves /asyncapi.json, /parley.d.ts and /docs/events to all"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="debug, info, warning or error"
    )
    ping_interval_ms: int = Field(25_000, ge=100, le=300_000, description="milliseconds, 100 to 300000")
    ping_timeout_ms: int = Field(20_000, ge=100, le=300_000, description="milliseconds, 100 to 300000")
    max_payload_bytes: int = Field(
        1_000_000, ge=1000, le=100_000_000, description="bytes, 1000 to 100000000: one message of a client"
    )
    max_buffered_bytes: int = Field(
        1_048_576, ge=65_536, le=1_073_741_824, description="bytes, 65536 to 1073741824: what a client may leave unread"
    )
    max_buffered_seconds: float = Field(10.0, ge=1, le=600, description="seconds, 1 to 600: for how long it may")
    max_events_under_way: int = Field(
        256, ge=1, le=10_000, description="1 to 10000: unanswered events of a connection, before no more are read"
    )
    max_rooms_joined: int = Field(
        10_000, ge=10, le=1_000_000, description="10 to 1000000: rooms of a connection; it hears nothing of more"
    )
    max_namespaces: int = Field(10, ge=1, le=100, description="1 to 100: namespaces of a connection")
    max_attachments: int = Field(10, ge=0, le=1000, description="0 to 1000: binary attachments of an event")
    max_packets_per_post: int = Field(1_000, ge=1, le=100_000, description="1 to 100000: packets in a polling POST")
    max_json_depth: int = Field(32, ge=8, le=500, description="8 to 500: nesting of a client's JSON")
    connect_seconds: float = Field(10.0, ge=0.1, le=600, description="seconds, 0.1 to 600: for a client to CONNECT")
    max_handshakes_per_second: int = Field(
        1_000, ge=1, le=1_000_000, description="1 to 1000000: new connections of a node; more get 503 SERVER_BUSY"
    )
    rate_limits: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = Field(
        "on", description="on or off: whether too many handshakes are sent away"
    )
    moderation_webhook: Annotated[str, AfterValidator(_url("https", "http"))] | None = Field(
        None, repr=False, description="the http(s):// address that is asked about each message; unset: none"
    )
    moderation_hook: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = Field(
        None, description="an async function that is asked about each message, as module:function; unset: none"
    )
    moderation_fail_open: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = Field(
        "on", description="on or off: whether messages pass while neither of the two answers"
    )
    environment: Annotated[Literal["development", "production"], BeforeValidator(_lower)] = Field(
        "development", description="development or production"
    )

    def limits(self) -> Limits:
        """The bounds of the realtime server."""
        return Limits(
            payload_bytes=self.max_payload_bytes,
            buffered_bytes=self.max_buffered_bytes,
            buffered_seconds=self.max_buffered_seconds,
            events_under_way=self.max_events_under_way,
            rooms=self.max_rooms_joined,
            namespaces=self.max_namespaces,
            attachments=self.max_attachments,
            packets_per_post=self.max_packets_per_post,
            json_depth=self.max_json_depth,
            connect_seconds=self.connect_seconds,
            handshakes_per_second=self.max_handshakes_per_second if self.rate_limits == "on" else None,
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what load_settings() passes: no second way in, and no fault for variables that are not ours."""
        return (init_settings,)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of this environment; empty variables count as unset.

    In development without any key a secret is made in DATA_DIR, and found there by the next start.

    Raises:
        SettingsError: something is wrong or missing; the message has every fault.
    """
    found = {name: environ.get(name.upper(), "") for name in Settings.model_fields}
    # A secret's bytes are all part of it; around anything else a space is a slip of the hand.
    given = {name: value if name == "jwt_secret" else value.strip() for name, value in found.items() if value.strip()}
    faults = _production_faults(given) if given.get("environment", "").lower() == "production" else []
    values: dict[str, Any] = dict(given)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        names = {str(fault["loc"][0]): None for fault in error.errors()}
        faults += [_fault(name, given[name]) for name in names]
    faults += _resolve_keys(given, values)
    if "moderation_webhook" in given and "moderation_hook" in given:
        faults.append("MODERATION_WEBHOOK, MODERATION_HOOK: got both, takes one of them")
    if faults:
        raise SettingsError("\n  ".join([f"the settings have {len(faults)} fault{'s' * (len(faults) > 1)}:", *faults]))
    if not any(name in values for name in _KEY_FIELDS):
        try:
            values["jwt_secret"] = development_secret(settings.data_dir)
        except (OSError, ValueError) as error:
            raise SettingsError(f"DATA_DIR: {settings.data_dir} cannot keep the development secret: {error}") from error
    values.setdefault("jwt_algorithms", _fitting_algorithms(values))
    return Settings(**values)


def development_secret(data_dir: Path) -> str:
    """The secret of this data directory, made on first use; readable by its owner alone.

    Two processes that start at once get the same. Raises OSError, and ValueError when the file holds no such secret.
    """
    path = data_dir / "jwt-secret"
    if not path.exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = path.with_name(f"jwt-secret.{os.getpid()}")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(64))
        try:
            os.link(scratch, path)  # unlike a rename it never replaces the other process's
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    path.chmod(0o600)
    secret = path.read_text().strip()
    if len(secret.encode()) < SECRET_MIN_BYTES:
        raise ValueError(f"{path} holds less than {SECRET_MIN_BYTES} bytes; delete it and a new one is made")
    return secret


def _production_faults(given: Mapping[str, str]) -> list[str]:
    """What development forgives and production does not."""
    faults = [
        f"{name.upper()}: not set, takes in production {Settings.model_fields[name].description}".split("; unset")[0]
        for name in ("mongodb_url", "redis_url")
        if name not in given
    ]
    if not any(name in given for name in _KEY_FIELDS):
        faults.append(f"JWT_SECRET: not set, takes in production {_SECRET_TAKES}; or set JWT_PUBLIC_KEY or JWKS_URL")
    if "*" in _words(given.get("cors_origins", "")):
        faults.append("CORS_ORIGINS: got *, takes in production the origins by name")
    return faults


def _resolve_keys(given: Mapping[str, str], values: dict[str, Any]) -> list[str]:
    """Check the key and the algorithms against each other; put the PEM text in `values` where a path was given."""
    sources = [name for name in _KEY_FIELDS if name in given]
    asked = _words(given.get("jwt_algorithms", "")) or ()
    family = PUBLIC_KEY_ALGORITHMS if sources and sources[0] != "jwt_secret" else frozenset(HMAC_MIN_BYTES)
    faults = []
    if len(sources) > 1:
        names = ", ".join(name.upper() for name in sources)
        faults.append(f"{names}: got {len(sources)} sources of keys, takes exactly one of them")
    elif foreign := sorted(set(asked) & set(_ALGORITHMS) - family):
        kind = sources[0].upper() if sources else "no key set"
        faults.append(f"JWT_ALGORITHMS: got {', '.join(foreign)}, takes with {kind} only {', '.join(sorted(family))}")
    checks: dict[str, Callable[[str, tuple[str, ...], dict[str, Any]], None]]
    checks = {"jwt_secret": _check_secret, "jwt_public_key": _take_public_key}
    for name in checks.keys() & given.keys():
        try:
            checks[name](given[name], asked, values)
        except OSError as error:  # without its file name: what was taken for one can be a secret in the wrong variable
            faults.append(f"{_fault(name, given[name])} (as a file: {error.strerror})")
        except ValueError as error:
            faults.append(f"{_fault(name, given[name])} ({error})")
    return faults


def _check_secret(secret: str, asked: tuple[str, ...], values: dict[str, Any]) -> None:
    StaticKeys.from_secret(secret, HMAC_MIN_BYTES.keys() & asked or {"HS256"})


def _take_public_key(value: str, asked: tuple[str, ...], values: dict[str, Any]) -> None:
    values["jwt_public_key"] = _pem_text(value)
    keys = StaticKeys.from_pem(values["jwt_public_key"], PUBLIC_KEY_ALGORITHMS & set(asked) or PUBLIC_KEY_ALGORITHMS)
    values["jwt_algorithms"] = tuple(keys.algorithms)


def _fitting_algorithms(values: Mapping[str, Any]) -> tuple[str, ...]:
    """All that the secret is long enough for (RFC 7518, 3.2); all public-key ones for a key set."""
    if secret := values.get("jwt_secret"):
        return tuple(name for name, least in HMAC_MIN_BYTES.items() if len(secret.encode()) >= least)
    return tuple(sorted(PUBLIC_KEY_ALGORITHMS))


def _pem_text(value: str) -> str:
    """PEM as it is, PEM with its line ends written `\\n`, as env files have it, or the content of a file."""
    if value.startswith("-----BEGIN"):
        return value.replace("\\n", "\n")
    path = Path(value)
    if path.stat().st_size > PEM_FILE_MAX_BYTES:
        raise ValueError(f"the file has more than {PEM_FILE_MAX_BYTES} bytes")
    return path.read_text()


def _fault(name: str, value: str) -> str:
    description = Settings.model_fields[name].description
    return f"{name.upper()}: got {_shown(name, value)}, takes {description}"


def _shown(name: str, value: str) -> str:
    """The value as far as it may be seen: of a secret its length, of an address (passwords!) the scheme."""
    if name in _SECRET_FIELDS:
        return f"{len(value.encode())} bytes"
    if name.endswith(("_url", "_webhook")):
        scheme = re.match(r"[a-z0-9+.-]{1,20}://", value)
        return f"{scheme[0] if scheme else ''}… of {len(value)} characters"
    return repr(value) if len(value) <= SHOWN_MAX_CHARACTERS else f"{value[:SHOWN_MAX_CHARACTERS]!r}…"
