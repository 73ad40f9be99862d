"""How to reach a Redis server, read from a URL or from a client that the service already has.

The client itself is never used: redis-py retries ten times in silence, which charged an INCR twice after one
lost reply and made a call to a dead port take 4.9 s, and it costs 12 us a command.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from backstay.errors import Misuse
from backstay.url import mask, parse, require

from ...backend import StoreFailed

__all__ = ["Settings"]


class _Credentials(Protocol):
    def get_credentials(self) -> tuple[str] | tuple[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One server's address, database, credentials and TLS options; passwords do not show in its repr."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    provider: _Credentials | None = field(default=None, repr=False)
    tls: tuple[tuple[str, Any], ...] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, store: object) -> Settings:
        """Read the settings of a URL (`redis://`, `rediss://`, `unix://`) or of a redis-py client of either make.

        Raises:
            Misuse: the URL is malformed, or the client is of a kind that has no one server (Cluster, Sentinel).
            MissingExtra: redis-py or hiredis is not installed.
        """
        redis = require("redis", "redis")
        require("hiredis", "redis")
        if isinstance(store, str):
            parse(store)
            try:
                pool: Any = redis.ConnectionPool.from_url(store)
            except ValueError as error:
                raise Misuse(f"malformed URL {mask(store)!r}: {mask(str(error))}") from None
        else:
            pool = getattr(store, "connection_pool", None)
        arguments = getattr(pool, "connection_kwargs", None)
        if type(arguments) is not dict:
            raise Misuse(f"{type(store).__name__} is no client of one Redis server; pass a URL or a redis.Redis")
        if "Sentinel" in type(pool).__name__:
            raise Misuse("a client of Sentinel cannot hold rate limits yet; pass the URL of the primary server")
        given = cast("dict[str, Any]", arguments)
        kind = getattr(pool, "connection_class", type(None)).__mro__
        secured = any("SSL" in cls.__name__ for cls in kind)
        if given.get("ssl_validate_ocsp") or given.get("ssl_validate_ocsp_stapled"):
            raise Misuse("OCSP validation is not supported for the limiter's own connections; use a local TLS proxy")
        return cls(
            host=given.get("host") or "localhost",
            port=int(given.get("port") or 6379),
            path=given.get("path") or "",
            db=int(given.get("db") or 0),
            username=given.get("username"),
            password=given.get("password"),
            provider=given.get("credential_provider"),
            tls=tuple(sorted((k, v) for k, v in given.items() if k.startswith("ssl_"))) if secured else None,
        )

    def credentials(self) -> tuple[str, ...]:
        """Return what AUTH takes, or nothing. A credential provider may do I/O to find it.

        Raises:
            StoreFailed: the provider raised.
        """
        if self.provider is not None:
            try:
                return tuple(self.provider.get_credentials())
            except Exception as error:
                raise StoreFailed("refused", f"the credential provider raised {type(error).__name__}") from error
        if self.password is None:
            return ()
        return (self.username, self.password) if self.username else (self.password,)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS context that redis-py's `ssl_...` options describe, or None without TLS."""
        if self.tls is None:
            return None
        options: dict[str, Any] = dict(self.tls)
        requirement: Any = options.get("ssl_cert_reqs", "required") or "none"
        modes = {
            "none": ssl.CERT_NONE,
            "optional": ssl.CERT_OPTIONAL,
            "required": ssl.CERT_REQUIRED,
        }
        context = ssl.create_default_context()
        mode = modes[requirement] if requirement in modes else ssl.VerifyMode(requirement)
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

    def __str__(self) -> str:
        place = f"unix://{self.path}?db={self.db}" if self.path else f"{self.host}:{self.port}/{self.db}"
        scheme = "" if self.path else ("rediss://" if self.tls is not None else "redis://")
        return scheme + place
