"""From a URL or client to buckets."""

from __future__ import annotations

import re
import weakref
from typing import Any, Protocol

from backstay.errors import Misuse
from backstay.url import choose, parse, require

from ..forks import Guard
from .backend import AsyncBuckets, Buckets
from .backends.memory import MemoryBuckets
from .rate import Rate

__all__ = ["async_buckets", "blocking_buckets", "disconnect"]


class _Closable(Protocol):
    async def aclose(self) -> None: ...


_SCHEMES = {
    "memory": "memory",
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "redis+sentinel": "redis",
    "rediss+sentinel": "redis",
    "redis+cluster": "redis",
    "rediss+cluster": "redis",
}
_NAME = re.compile(r"[^\s{}:]{1,100}")

_guard = Guard()
_remote: weakref.WeakSet[_Closable] = weakref.WeakSet()
_in_memory: weakref.WeakValueDictionary[tuple[str, str], MemoryBuckets] = weakref.WeakValueDictionary()


def blocking_buckets(
    store: object, *, rate: Rate, name: str, namespace: str, budget: float, time: str, max_keys: int
) -> Buckets:
    """Return buckets of the blocking make."""
    if _kind(store, name, namespace) == "memory":
        return _memory(rate, name, namespace, max_keys)
    require("redis", "redis")
    from .backends.redis import RedisBuckets, Store

    return RedisBuckets(Store.shared(store, budget), rate, namespace=namespace, name=name, time_source=time)


def async_buckets(
    store: object, *, rate: Rate, name: str, namespace: str, budget: float, time: str, max_keys: int
) -> AsyncBuckets | MemoryBuckets:
    """Return buckets of the asyncio make; those in memory are the same for both."""
    if _kind(store, name, namespace) == "memory":
        return _memory(rate, name, namespace, max_keys)
    require("redis", "redis")
    from .backends.redis import AsyncRedisBuckets, Store

    found = Store.shared(store, budget)
    _remote.add(found)
    return AsyncRedisBuckets(found, rate, namespace=namespace, name=name, time_source=time)


async def disconnect() -> None:
    """Close the running loop's connections to all stores, at the end of an application's lifespan.

    For limiters that `protect` made from a URL, which nobody holds. All of them may be used again.
    """
    for store in tuple(_remote):
        await store.aclose()


def _kind(store: object, name: str, namespace: str) -> str:
    texts: Any = (("name", name), ("namespace", namespace))
    for what, text in texts:
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            raise Misuse(
                f"{what} of a rate limiter must be 1 to 100 characters without spaces, ':', '{{', '}}'; got {text!r}"
            )
    return choose(parse(store), _SCHEMES, what="rate limiter") if isinstance(store, str) else "redis"


def _memory(rate: Rate, name: str, namespace: str, max_keys: int) -> MemoryBuckets:
    """Return the process's buckets of that name: one name is one limit, in memory as on Redis."""
    with _guard.lock:
        found = _in_memory.get((namespace, name))
        if found is None:
            found = _in_memory[namespace, name] = MemoryBuckets(rate, max_keys=max_keys)
        elif str(found.rate) != str(rate):
            raise Misuse(
                f"rate limiter {name!r} in namespace {namespace!r} exists in this process with {found.rate}, "
                f"not {rate}; use another name or the same rate"
            )
        return found
