"""The strategy for blocking code: Flask-Limiter and slowapi use this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limits.errors import StorageError
from limits.limits import RateLimitItem
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import RateLimiter
from limits.util import WindowStats

from ..rate import Scale
from .stores import InProcess, in_process, unsupported
from .terms import key_of, stats, terms_of

__all__ = ["TokenBucketRateLimiter"]


class TokenBucketRateLimiter(RateLimiter):
    """An exact token bucket an item and identifiers, under the interface of `limits`.

    Guarantees: over any stretch of time at most amount + rate x time is admitted, and a caller that keeps asking
    gets that much (RL-1, RL-2); on Redis over all processes, on the server's clock, one key a bucket that lives
    until the bucket is full (RL-4, RL-5). Not guaranteed: that several items are charged all or none; packages on
    top of `limits` charge one after the other (P5). `JointRateLimiter` does that in one step.

    Args:
        storage: `MemoryStorage` or one of Redis or Valkey: single, Cluster or Sentinel.
        clock_ns: of buckets in memory: monotonic nanoseconds.

    Raises:
        StorageUnsupported: it is another one.
    """

    def __init__(self, storage: Any, *, clock_ns: Callable[[], int] | None = None) -> None:
        if not isinstance(storage, MemoryStorage | RedisStorage):
            raise unsupported(storage, "a MemoryStorage or RedisStorage of limits.storage")
        super().__init__(storage)
        self._buckets: InProcess | _OnRedis = (
            in_process(storage, clock_ns) if isinstance(storage, MemoryStorage) else _OnRedis(storage)
        )

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Take `cost` tokens, all or none, and return whether they were there. A cost above the amount never is."""
        return cost <= item.amount and (cost < 1 or self._buckets.hit(item, identifiers, cost))

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Return whether `cost` tokens are there. Nothing is taken."""
        distance, scale = self._buckets.distance(item, identifiers)
        return scale.window - distance >= cost * scale.token

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """Return when the next token comes, as whole seconds of the wall clock, and how many are left."""
        return stats(*self._buckets.distance(item, identifiers))

    def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Fill the bucket."""
        self._buckets.clear(item, identifiers)


class _OnRedis:
    """Buckets behind the storage's own client: the storage's prefix, so that its `reset` finds them."""

    def __init__(self, storage: RedisStorage) -> None:
        self._storage = storage
        client: Any = storage.get_connection()
        from ..backends.redis.wire import SCRIPT  # needs hiredis, which buckets in memory do not

        self._script: Any = client.register_script(SCRIPT)

    def hit(self, item: RateLimitItem, identifiers: tuple[str, ...], cost: int) -> bool:
        return self._ask(item, identifiers, cost)[0] == 1

    def distance(self, item: RateLimitItem, identifiers: tuple[str, ...]) -> tuple[int, Scale]:
        # More than the bucket holds is refused, whatever the level: the answer tells the level, and nothing is written.
        cost = item.amount + 1
        terms = terms_of(item.amount, item.get_expiry())
        return terms.distance(self._ask(item, identifiers, cost), cost), terms.scale

    def clear(self, item: RateLimitItem, identifiers: tuple[str, ...]) -> None:
        self._storage.clear(key_of(item, identifiers))

    def _ask(self, item: RateLimitItem, identifiers: tuple[str, ...], cost: int) -> list[int]:
        storage = self._storage
        keys = [storage.prefixed_key(key_of(item, identifiers))]
        try:
            answer: list[int] = self._script(keys, terms_of(item.amount, item.get_expiry()).arguments(cost))
        except storage.base_exceptions as error:
            if storage.wrap_exceptions:
                raise StorageError(error) from error
            raise
        return answer
