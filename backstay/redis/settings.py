"""How to reach one Redis server: connection settings, copied from a URL or from the user's client.

The client itself is never used. A client retries by itself (redis-py 8: ten times, silently, up to a minute),
which would break every deadline here and hide that a request may have been executed twice. So its connection
settings are copied and its retries, decoding, protocol version and hooks are not.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import redis
from redis.asyncio import connection as asyncio_connections
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from backstay.errors import Misuse

__all__ = ["KEPT", "PATIENCE", "Settings", "database", "kept"]

PATIENCE = 2.0  # s for one exchange where neither the caller nor the client says otherwise

KEPT = frozenset(
    {"host", "port", "path", "db", "username", "password", "credential_provider", "client_name", "socket_keepalive"}
    | {"socket_keepalive_options", "socket_connect_timeout", "socket_type", "ssl_keyfile", "ssl_certfile"}
    | {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_check_hostname", "ssl_min_version"}
    | {"ssl_ciphers", "ssl_password", "ssl_include_verify_flags", "ssl_exclude_verify_flags"}
)
"""Options of a connection that are copied."""

_OURS: Mapping[str, Any] = {
    "decode_responses": False,  # owners are compared as bytes (R12)
    "protocol": 2,  # pushes of protocol 3 are formatted and logged by the driver, message by message
    "health_check_interval": 0,
    "retry_on_timeout": False,
    "driver_info": None,  # spares two exchanges with each connection
}
_KINDS: Mapping[str, tuple[Any, Any]] = {
    "tcp": (redis.Connection, asyncio_connections.Connection),
    "tls": (redis.SSLConnection, asyncio_connections.SSLConnection),
    "unix": (redis.UnixDomainSocketConnection, asyncio_connections.UnixDomainSocketConnection),
}
_MODES: Mapping[str, ssl.VerifyMode] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class _Credentials(Protocol):
    def get_credentials(self) -> tuple[str] | tuple[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A server's address, and how to introduce oneself there.

    Args:
        kind: `tcp`, `tls` or `unix`.
        options: arguments of the driver's connections; never shown, since a password may be among them.
    """

    kind: str = "tcp"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise Misuse(f"a connection to Redis is one of {', '.join(_KINDS)}; got {self.kind!r}")

    @property
    def host(self) -> str:
        """The server's name or address."""
        return str(self.options.get("host") or "localhost")

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.options.get("port") or 6379)

    @property
    def path(self) -> str:
        """Its socket in the file system, or an empty text."""
        return str(self.options.get("path") or "") if self.kind == "unix" else ""

    @property
    def db(self) -> int:
        """The number of the database there."""
        return int(self.options.get("db") or 0)

    @property
    def provider(self) -> _Credentials | None:
        """Who is asked for credentials, where they change."""
        return cast("_Credentials | None", self.options.get("credential_provider"))

    @property
    def label(self) -> str:
        """The server's name in errors, without secrets."""
        if self.path:
            return f"unix://{self.path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.kind == 'tls' else 'redis'}://{host}:{self.port}/{self.db}"

    @property
    def identity(self) -> tuple[object, ...]:
        """What two settings of the same server and user have in common; it can be a key. Never show it."""
        return self.kind, *(
            (name, value if getattr(value, "__hash__", None) else repr(value))
            for name, value in sorted(self.options.items())
        )

    def __str__(self) -> str:
        return self.label

    def at(self, host: str, port: int) -> Settings:
        """Return the same settings for another server."""
        return replace(self, options={**self.options, "host": host, "port": port})

    # -- the driver's connections

    def blocking(self, timeout: float, connect_within: float | None = None) -> Any:
        """Return a new connection for threads, not connected yet; each step takes at most `timeout` seconds."""
        limits = {"socket_connect_timeout": connect_within or timeout, "socket_timeout": timeout}
        return _KINDS[self.kind][0](**{**self.options, **_OURS, **limits, "retry": Retry(NoBackoff(), 0)})

    def asynchronous(self) -> Any:
        """Return a new connection for the running loop, not connected yet; timeouts are the caller's."""
        limits = {"socket_connect_timeout": None, "socket_timeout": None}
        return _KINDS[self.kind][1](**{**self.options, **_OURS, **limits, "retry": AsyncRetry(NoBackoff(), 0)})

    # -- for those who open a socket themselves

    def credentials(self) -> tuple[str, ...]:
        """Return what AUTH takes, or nothing. A provider may do I/O to find it, and raise what it likes."""
        if self.provider is not None:
            return tuple(self.provider.get_credentials())
        password, username = self.options.get("password"), self.options.get("username")
        if password is None:
            return ()
        return (username, password) if username else (password,)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS context that redis-py's `ssl_...` options describe, or None without TLS.

        Raises:
            OSError: a certificate cannot be read.
        """
        if self.kind != "tls":
            return None
        options = self.options
        requirement: Any = options.get("ssl_cert_reqs", "required") or "none"
        mode = _MODES[requirement] if requirement in _MODES else ssl.VerifyMode(requirement)
        context = ssl.create_default_context()
        context.check_hostname = bool(options.get("ssl_check_hostname", True)) and mode is not ssl.CERT_NONE
        context.verify_mode = mode
        if options.get("ssl_certfile"):
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password"))
        authorities = {key: options.get(f"ssl_ca_{name}") for key, name in
                       (("cafile", "certs"), ("capath", "path"), ("cadata", "data"))}  # fmt: skip
        if any(authorities.values()):
            context.load_verify_locations(**authorities)
        if options.get("ssl_min_version") is not None:
            context.minimum_version = options["ssl_min_version"]
        if options.get("ssl_ciphers"):
            context.set_ciphers(options["ssl_ciphers"])
        return context


def kept(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are copied; the database as a number.

    Raises:
        Misuse: it is none, or certificates are to be validated by OCSP, which these connections do not.
    """
    if given.get("ssl_validate_ocsp") or given.get("ssl_validate_ocsp_stapled"):
        raise Misuse("certificates of Redis cannot be validated by OCSP here; leave that to a local TLS proxy")
    options = {name: value for name, value in given.items() if name in KEPT and value is not None}
    options["db"] = database(options.get("db", 0))
    return options


def database(value: Any) -> int:
    """Return the number of a database.

    Raises:
        Misuse: it is no number.
    """
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Misuse(f"the database of a Redis URL is a number, got {value!r}") from None
