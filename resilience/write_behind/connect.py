"""Which cache a URL means."""

from __future__ import annotations

from typing import Any

from backstay.errors import Misuse
from backstay.url import mask, require

from .backends.local import LocalCache
from .cache import Cache
from .settings import Settings

__all__ = ["connect"]


def connect(name: str, given: object, settings: Settings, *, asynchronous: bool) -> Cache:
    """Return the cache for a URL or a client of Redis.

    Raises:
        Misuse: it is neither.
        MissingExtra: redis-py is not installed.
    """
    if isinstance(given, LocalCache):
        if given.name != name:
            raise Misuse(f"this cache is that of {given.name!r}, not of {name!r}")
        return given
    if isinstance(given, str):
        scheme = given.partition(":")[0]
        if given == "memory://":
            return LocalCache(name, None, settings)
        if scheme == "sqlite":
            path = given.removeprefix("sqlite:///")
            if not path or path in (given, ":memory:"):
                raise Misuse(f"cache: {given!r} names no file; write sqlite:///stock.db, or memory://")
            return LocalCache(name, path, settings)
        if not scheme.startswith(("redis", "rediss", "unix")):
            raise Misuse(f"cache: {mask(given)!r} is none of memory://, sqlite:///file and redis://...")
    require("redis", "redis")
    from .backends import redis

    make: Any = redis.AsyncRedisCache if asynchronous else redis.RedisCache
    found: Cache = make(name, given, settings)
    return found
