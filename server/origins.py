"""Which web pages may open a connection (wire contract, section 1)."""

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def origin_check(allowed: Collection[str], environment: str) -> Callable[[str, str], bool]:
    """A function that says whether pages of an origin may connect to the host and port that they ask for.

    Listed origins may, and `*` allows all; pages of the server itself always may, and in development those of any
    localhost. The server's own are told by host and port alone, for a proxy may have taken the TLS off.
    """

    def may_connect(origin: str, asked_host: str) -> bool:
        if origin in allowed or "*" in allowed:
            return True
        try:
            parts = urlsplit(origin)
            host = parts.hostname
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or host is None:
            return False
        return parts.netloc == asked_host or (environment == "development" and host in _LOCAL_HOSTS)

    return may_connect
