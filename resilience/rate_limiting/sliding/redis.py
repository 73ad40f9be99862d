"""Sliding windows on Redis, both makes, over the limiter's own connections: its budget, its gate, its not-after."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

from backstay.errors import Misuse

from ..backends.redis import AsyncRedisBuckets, RedisBuckets, Store
from ..backends.redis.wire import Script, bulk
from ..decision import Decision
from ..rate import Rate, Scale
from .law import Law, Stand

__all__ = ["AsyncSlidingRedis", "SlidingRedis"]

_FOLDER = resources.files(__name__.rpartition(".")[0])
_SCRIPT = Script(_FOLDER.joinpath("sliding_window.lua").read_bytes(), keys=1, arguments=6)
_LONGEST_KEY = 200
_LONGEST_PERIOD = 2**50  # microseconds; a moment and two periods are counted exactly


class _Windows:
    """What both makes have: one rate in the script's arguments, and its replies as balances."""

    def __init__(self, way: Any, namespace: str, name: str) -> None:
        self._way = way  # buckets of the same make, for their way to the server: nothing is kept in them
        self._law = Law(way.rate, 1_000_000)
        if self._law.period > _LONGEST_PERIOD:
            raise Misuse(f"rate {way.rate}: the period is longer than Redis can count exactly")
        self._prefix = f"backstay:{namespace}:window:1:{{{name}:"
        self._tail = b"".join(bulk(b"%d" % each) for each in (self._law.count, self._law.period, self._law.slot))
        self._last = 0.0
        self.store: Store = way.store

    @property
    def rate(self) -> Rate:
        """The rate of each window."""
        return self._law.rate

    @property
    def scale(self) -> Scale:
        """The unit of balances: microseconds."""
        return self._law.scale

    def decide(self, balance: int, cost: int) -> Decision:
        """Return the decision that a balance stands for."""
        return self._law.decide(balance, cost)

    def utilization(self) -> float:
        """Return how full the window is that was charged last, 0 to 1."""
        return self._last

    def _body(self, key: str, cost: int) -> bytes:
        if len(key) > _LONGEST_KEY:
            key = hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
        return bulk(f"{self._prefix}{key}}}".encode()) + bulk(b"%d" % cost) + self._tail

    def _balance(self, answer: list[Any]) -> int:
        status, wait, remaining, _, reset = answer
        self._last = 1 - remaining / self._law.count
        return Stand.of(1 if status == 1 else -wait, remaining, reset)


class SlidingRedis(_Windows):
    """One sliding window a key on Redis, blocking make.

    Guarantees the law of `sliding` on the server's clock, over all processes; one key a window, of at most 22 pairs
    of numbers, gone when the window is empty; at most the store's budget a call.

    Args:
        store: the server.
        rate: of each window, without a burst.
        namespace: keeps applications on one server apart.
        name: the limiter's.
        time_source: `server`, or `client` where the server refuses `TIME` to scripts.

    Raises:
        Misuse: the rate has a burst, or its period is out of range.
    """

    def __init__(self, store: Store, rate: Rate, *, namespace: str, name: str, time_source: str = "server") -> None:
        self._buckets = RedisBuckets(store, rate, namespace=namespace, name=name, time_source=time_source)
        super().__init__(self._buckets, namespace, name)

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the window of `key`, all or none, and return the balance."""
        way, body = self._buckets, self._body(key, cost)
        return self._balance(way.run(lambda deadline: way.ask(body, way.terms.moment, deadline, _SCRIPT)))


class AsyncSlidingRedis(_Windows):
    """One sliding window a key on Redis, asyncio make; as `SlidingRedis`."""

    def __init__(self, store: Store, rate: Rate, *, namespace: str, name: str, time_source: str = "server") -> None:
        self._buckets = AsyncRedisBuckets(store, rate, namespace=namespace, name=name, time_source=time_source)
        super().__init__(self._buckets, namespace, name)

    async def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the window of `key`, as `SlidingRedis.charge` does."""
        way, body = self._buckets, self._body(key, cost)
        return self._balance(await way.run(lambda deadline: way.ask(body, way.terms.moment, deadline, _SCRIPT)))
