"""How to reach a Redis server: taken from a URL or from the user's client, which itself is never used.

A client retries by itself (redis-py 8: ten times, silently, up to a minute), which would break every deadline
here and hide that a request may have been executed twice. So its connection settings are copied and its
retries, decoding, protocol version and hooks are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from redis.asyncio import connection as asyncio_connections
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from backstay.errors import Misuse
from backstay.url import Url, mask

__all__ = ["Settings", "of_client", "of_url"]

PATIENCE = 2.0  # s for one exchange where neither the caller nor the client says otherwise

_KEPT = frozenset(
    {"host", "port", "path", "db", "username", "password", "credential_provider", "client_name", "socket_keepalive"}
    | {"socket_keepalive_options", "socket_connect_timeout", "socket_type", "ssl_keyfile", "ssl_certfile"}
    | {"ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_check_hostname", "ssl_min_version"}
    | {"ssl_ciphers", "ssl_password", "ssl_include_verify_flags", "ssl_exclude_verify_flags"}
)
_KNOWN = frozenset(
    {"socket_timeout", "decode_responses", "protocol", "health_check_interval", "retry_on_timeout", "max_connections"}
    | {"encoding", "encoding_errors"}
)
"""Options of a URL that mean something to a client and nothing here, except for the first."""
_OURS: Mapping[str, Any] = {
    "decode_responses": False,  # owners are compared as bytes (R12)
    "protocol": 2,  # pushes of protocol 3 are formatted and logged by the driver, message by message
    "health_check_interval": 0,
    "retry_on_timeout": False,
    "driver_info": None,  # spares two exchanges with each connection
}
_KINDS: Mapping[str, tuple[Any, Any]] = {
    "Connection": (redis.Connection, asyncio_connections.Connection),
    "SSLConnection": (redis.SSLConnection, asyncio_connections.SSLConnection),
    "UnixDomainSocketConnection": (
        redis.UnixDomainSocketConnection,
        asyncio_connections.UnixDomainSocketConnection,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A server's address, and how long it may take to answer.

    Args:
        kind: which of the driver's connection classes.
        options: its arguments; never shown, since a password may be among them.
        patience: seconds for one exchange.
        label: the server's name in errors, without secrets.
    """

    kind: str
    options: Mapping[str, Any]
    patience: float
    label: str

    def __repr__(self) -> str:
        return f"Settings({self.label!r}, patience={self.patience:g})"

    def blocking(self, timeout: float) -> Any:
        """Return a new connection for threads, not connected yet; connecting takes at most `timeout` seconds."""
        limits = {"socket_connect_timeout": timeout, "socket_timeout": timeout}
        return _KINDS[self.kind][0](**{**self.options, **_OURS, **limits, "retry": Retry(NoBackoff(), 0)})

    def asynchronous(self) -> Any:
        """Return a new connection for the running loop, not connected yet; timeouts are the caller's."""
        limits = {"socket_connect_timeout": None, "socket_timeout": None}
        return _KINDS[self.kind][1](**{**self.options, **_OURS, **limits, "retry": AsyncRetry(NoBackoff(), 0)})


def of_url(url: Url, answer_within: float | None) -> Settings:
    """Read a `redis://`, `rediss://` or `unix://` URL as redis-py does.

    Raises:
        Misuse: redis-py cannot read it.
    """
    unknown = sorted(set(url.query) - _KEPT - _KNOWN)
    if unknown:
        raise Misuse(f"{str(url)!r}: a Redis URL has no option {unknown[0]!r}; known: {', '.join(sorted(_KEPT))}")
    if url.scheme != "unix" and url.path.strip("/"):
        _database(url.path.strip("/"))  # redis-py takes database 0 where it cannot read the number
    try:
        reader: Any = redis.Redis  # its from_url is typed in part only
        return _of_pool(
            reader.from_url(url.raw).connection_pool,
            str(url),
            answer_within,
            timeout_given="socket_timeout" in url.query,
        )
    except (ValueError, TypeError) as error:
        if isinstance(error, Misuse):
            raise
        raise Misuse(f"{str(url)!r}: {mask(str(error))}") from None


def of_client(client: object, answer_within: float | None) -> Settings:
    """Copy the settings of a `redis.Redis` or `redis.asyncio.Redis`.

    Raises:
        Misuse: it is a cluster, Sentinel or other client whose servers change under it.
    """
    if not isinstance(client, (redis.Redis, redis.asyncio.Redis)):
        kind = f"{type(client).__module__}.{type(client).__qualname__}"
        raise Misuse(f"locks take a redis.Redis or redis.asyncio.Redis of a single server, not {kind}")
    return _of_pool(client.connection_pool, "", answer_within, timeout_given=True)


def _of_pool(pool: Any, label: str, answer_within: float | None, *, timeout_given: bool) -> Settings:
    kind: str = pool.connection_class.__name__
    if kind not in _KINDS:
        raise Misuse(
            f"locks cannot use a client whose connections are {kind}; "
            f"known: {', '.join(sorted(_KINDS))}. Pass the URL of a single server"
        )
    given: Mapping[str, Any] = pool.connection_kwargs
    options = {name: value for name, value in given.items() if name in _KEPT and value is not None}
    options["db"] = _database(options.get("db", 0))
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    timeout = given.get("socket_timeout") if timeout_given else None
    patience = answer_within or (float(timeout) if timeout else PATIENCE)
    return Settings(kind=kind, options=options, patience=patience, label=label or f"redis://{where}/{options['db']}")


def _database(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Misuse(f"the database of a Redis URL is a number, got {value!r}") from None
