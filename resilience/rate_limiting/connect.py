"""From a URL or client to buckets."""

from __future__ import annotations

import re
import weakref
from typing import Any, Literal, Protocol, TypeAlias

from backstay.errors import Misuse
from backstay.url import choose, parse, require

from ..forks import Guard
from .announced import announced, announced_async
from .backend import AsyncBuckets, Buckets
from .backends.memory import MemoryBuckets
from .leased import AsyncLeasedBuckets, LeasedBuckets
from .rate import Rate
from .sliding import AsyncSlidingMemory, SlidingMemory
from .workers import warn_of_workers

__all__ = ["Algorithm", "async_buckets", "blocking_buckets", "disconnect"]


Algorithm: TypeAlias = Literal["token-bucket", "sliding-window"]
"""`token-bucket` admits a burst and the rate; `sliding-window` admits so much in any period, and no burst on top."""


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
_in_memory: weakref.WeakValueDictionary[tuple[str, str, str], MemoryBuckets | SlidingMemory] = (
    weakref.WeakValueDictionary()
)


def blocking_buckets(
    store: object,
    *,
    rate: Rate,
    name: str,
    namespace: str,
    budget: float,
    time: str,
    max_keys: int,
    algorithm: Algorithm = "token-bucket",
    lease: int | None = None,
    announce: bool = False,
) -> Buckets:
    """Return buckets of the blocking make."""
    made: Buckets
    if _kind(store, name, namespace, algorithm, lease) == "memory":
        made = _memory(rate, name, namespace, max_keys, algorithm)
    else:
        require("redis", "redis")
        from .backends.redis import RedisBuckets, Store
        from .sliding.redis import SlidingRedis

        way: Any = RedisBuckets if algorithm == "token-bucket" else SlidingRedis
        made = way(Store.shared(store, budget), rate, namespace=namespace, name=name, time_source=time)
        made = made if lease is None else LeasedBuckets(made, lease)
    return announced(made, name) if announce else made


def async_buckets(
    store: object,
    *,
    rate: Rate,
    name: str,
    namespace: str,
    budget: float,
    time: str,
    max_keys: int,
    algorithm: Algorithm = "token-bucket",
    lease: int | None = None,
    announce: bool = False,
) -> AsyncBuckets | MemoryBuckets:
    """Return buckets of the asyncio make; those in memory are the same for both."""
    made: Any
    if _kind(store, name, namespace, algorithm, lease) == "memory":
        made = _memory(rate, name, namespace, max_keys, algorithm)
        made = AsyncSlidingMemory(made) if isinstance(made, SlidingMemory) else made
    else:
        require("redis", "redis")
        from .backends.redis import AsyncRedisBuckets, Store
        from .sliding.redis import AsyncSlidingRedis

        found = Store.shared(store, budget)
        _remote.add(found)
        way: Any = AsyncRedisBuckets if algorithm == "token-bucket" else AsyncSlidingRedis
        made = way(found, rate, namespace=namespace, name=name, time_source=time)
        made = made if lease is None else AsyncLeasedBuckets(made, lease)
    return announced_async(made, name) if announce else made


async def disconnect() -> None:
    """Close the running loop's connections to all stores, at the end of an application's lifespan.

    For limiters that `protect` made from a URL, which nobody holds. All of them may be used again.
    """
    for store in tuple(_remote):
        await store.aclose()


def _kind(store: object, name: str, namespace: str, algorithm: str, lease: int | None) -> str:
    texts: Any = (("name", name), ("namespace", namespace))
    for what, text in texts:
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            raise Misuse(
                f"{what} of a rate limiter must be 1 to 100 characters without spaces, ':', '{{', '}}'; got {text!r}"
            )
    if algorithm not in ("token-bucket", "sliding-window"):
        raise Misuse(f"algorithm must be 'token-bucket' or 'sliding-window', got {algorithm!r}")
    kind = choose(parse(store), _SCHEMES, what="rate limiter") if isinstance(store, str) else "redis"
    if lease is not None and (kind == "memory" or algorithm != "token-bucket"):
        raise Misuse("lease saves round trips of token buckets on Redis; leave it out in memory and for a window")
    return kind


def _memory(
    rate: Rate, name: str, namespace: str, max_keys: int, algorithm: Algorithm
) -> MemoryBuckets | SlidingMemory:
    """Return the process's buckets of that name: one name is one limit, in memory as on Redis."""
    warn_of_workers(name)
    with _guard.lock:
        found = _in_memory.get((namespace, name, algorithm))
        if found is None:
            kind = MemoryBuckets if algorithm == "token-bucket" else SlidingMemory
            found = _in_memory[namespace, name, algorithm] = kind(rate, max_keys=max_keys)
        elif str(found.rate) != str(rate):
            raise Misuse(
                f"rate limiter {name!r} in namespace {namespace!r} exists in this process with {found.rate}, "
                f"not {rate}; use another name or the same rate"
            )
        return found
