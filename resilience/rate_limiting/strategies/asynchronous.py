"""The strategy for asyncio, over the storages of `limits.aio`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import RateLimiter
from limits.errors import StorageError
from limits.limits import RateLimitItem
from limits.util import WindowStats

from ..rate import Scale
from .stores import StorageUnsupported, in_process, unsupported
from .terms import key_of, stats, terms_of

__all__ = ["AsyncTokenBucketRateLimiter"]


class AsyncTokenBucketRateLimiter(RateLimiter):
    """An exact token bucket an item and identifiers; the same guarantees as `TokenBucketRateLimiter`.

    Args:
        storage: `limits.aio.storage.MemoryStorage`, or one of Redis or Valkey with `implementation="redispy"` (or
            `"valkey"`).
        clock_ns: of buckets in memory: monotonic nanoseconds.

    Raises:
        StorageUnsupported: it is another one, or Redis through coredis, which is the default of `limits`.
    """

    def __init__(self, storage: Any, *, clock_ns: Callable[[], int] | None = None) -> None:
        if not isinstance(storage, MemoryStorage | RedisStorage):
            raise unsupported(storage, "a MemoryStorage or RedisStorage of limits.aio.storage")
        super().__init__(storage)
        self._local = in_process(storage, clock_ns) if isinstance(storage, MemoryStorage) else None
        self._remote = None if isinstance(storage, MemoryStorage) else _OnRedis(storage)

    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Take `cost` tokens, all or none, and return whether they were there. A cost above the amount never is."""
        if not 1 <= cost <= item.amount:
            return cost < 1
        if self._local is not None:
            return self._local.hit(item, identifiers, cost)
        assert self._remote is not None
        return (await self._remote.ask(item, identifiers, cost))[0] == 1

    async def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Return whether `cost` tokens are there. Nothing is taken."""
        distance, scale = await self._distance(item, identifiers)
        return scale.window - distance >= cost * scale.token

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """Return when the next token comes, as whole seconds of the wall clock, and how many are left."""
        return stats(*await self._distance(item, identifiers))

    async def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Fill the bucket."""
        if self._local is not None:
            self._local.clear(item, identifiers)
        else:
            await self.storage.clear(key_of(item, identifiers))

    async def _distance(self, item: RateLimitItem, identifiers: tuple[str, ...]) -> tuple[int, Scale]:
        if self._local is not None:
            return self._local.distance(item, identifiers)
        assert self._remote is not None
        terms, cost = terms_of(item.amount, item.get_expiry()), item.amount + 1  # see the blocking make
        return terms.distance(await self._remote.ask(item, identifiers, cost), cost), terms.scale


class _OnRedis:
    """Buckets behind the client of the storage's bridge."""

    def __init__(self, storage: RedisStorage) -> None:
        self._storage = storage
        bridge: Any = storage.bridge
        if "coredis" in type(bridge).__module__:
            raise StorageUnsupported(
                "strategy 'token-bucket' needs redis-py under the storage, and limits uses coredis if it is not told: "
                "pass implementation='redispy' to the storage"
            )
        self._bridge = bridge
        from ..backends.redis.wire import SCRIPT  # needs hiredis, which buckets in memory do not

        self._script: Any = bridge.get_connection().register_script(SCRIPT)

    async def ask(self, item: RateLimitItem, identifiers: tuple[str, ...], cost: int) -> list[int]:
        storage = self._storage
        keys = [self._bridge.prefixed_key(key_of(item, identifiers))]
        try:
            answer: list[int] = await self._script(keys, terms_of(item.amount, item.get_expiry()).arguments(cost))
        except storage.base_exceptions as error:
            if storage.wrap_exceptions:
                raise StorageError(error) from error
            raise
        return answer
