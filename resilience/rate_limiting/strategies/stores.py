"""Where the strategy's buckets are: in this process, or in the Redis of the storage.

`MemoryStorage` of `limits` forgets by the wall clock and counts with whole seconds, so it cannot hold a bucket:
the buckets of a memory storage are kept beside it, live as long as it does, and are emptied by its `reset`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from limits.limits import RateLimitItem

from backstay.errors import Misuse

from ...forks import Guard
from ..backends.memory import MemoryBuckets
from ..rate import Rate, Scale
from .terms import key_of

__all__ = ["InProcess", "Resetting", "StorageUnsupported", "in_process", "unsupported"]

_MOST_RATES = 1000


class StorageUnsupported(Misuse, NotImplementedError):
    """The storage cannot hold a token bucket; `limits` raises NotImplementedError for its own strategies as well."""


def unsupported(storage: object, known: str) -> StorageUnsupported:
    """Return the error for a storage that the strategy does not know."""
    return StorageUnsupported(
        f"strategy 'token-bucket' cannot keep buckets in {type(storage).__name__}; use {known}, "
        "or another strategy of limits"
    )


class InProcess:
    """The buckets of one memory storage: exact, and shared by all strategies on that storage."""

    def __init__(self, clock_ns: Callable[[], int] | None = None) -> None:
        self._clock_ns = clock_ns
        self._rates: dict[tuple[int, int], MemoryBuckets] = {}

    def hit(self, item: RateLimitItem, identifiers: tuple[str, ...], cost: int) -> bool:
        """Take `cost` tokens, all or none."""
        return self._of(item).charge(key_of(item, identifiers), cost) > 0

    def distance(self, item: RateLimitItem, identifiers: tuple[str, ...]) -> tuple[int, Scale]:
        """Return how far from full the bucket is, and in which unit. A charge of nothing reads it."""
        buckets = self._of(item)
        return buckets.charge(key_of(item, identifiers), 0), buckets.scale

    def clear(self, item: RateLimitItem, identifiers: tuple[str, ...]) -> None:
        """Fill the bucket: a bucket that got all its tokens back is full, however empty it was."""
        buckets = self._of(item)
        buckets.charge(key_of(item, identifiers), -buckets.rate.capacity)

    def reset(self) -> int:
        """Forget all buckets and return how many there were."""
        held, self._rates = self._rates, {}
        return sum(len(buckets) for buckets in held.values())

    def _of(self, item: RateLimitItem) -> MemoryBuckets:
        name = (item.amount, item.get_expiry())
        found = self._rates.get(name)
        if found is None:
            made = self._made(*name)  # may replace the dict
            found = self._rates.setdefault(name, made)
        return found

    def _made(self, amount: int, expiry: int) -> MemoryBuckets:
        if len(self._rates) >= _MOST_RATES:  # rates that are made from requests: those with full buckets can go
            self._rates = {name: each for name, each in self._rates.items() if each.utilization() > 0}
            if len(self._rates) >= _MOST_RATES:
                raise Misuse(f"over {_MOST_RATES} different rates are in use in one storage; make fewer")
        rate = Rate(count=amount, period=float(expiry))
        return MemoryBuckets(rate) if self._clock_ns is None else MemoryBuckets(rate, clock_ns=self._clock_ns)


class Resetting:
    """The `reset` of one storage object, which empties the buckets beside it as well. It survives pickling."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __call__(self) -> Any:
        """Reset the storage as its class does, and then the buckets."""
        answer: Any = self._storage.__class__.reset(self._storage)
        found = _beside.get(self._storage)
        removed = 0 if found is None else found.reset()
        return answer + removed if isinstance(answer, int) else _later(answer, removed)


async def _later(answer: Any, removed: int) -> int:
    return int(await answer or 0) + removed


def in_process(storage: Any, clock_ns: Callable[[], int] | None) -> InProcess:
    """Return the buckets beside a memory storage, of either make."""
    with _guard.lock:
        found = _beside.get(storage)
        if found is None:
            found = _beside[storage] = InProcess(clock_ns)
            storage.reset = Resetting(storage)
        return found


_guard = Guard()
_beside: weakref.WeakKeyDictionary[Any, InProcess] = weakref.WeakKeyDictionary()
