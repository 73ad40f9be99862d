"""Token buckets on Redis, both makes: the arithmetic is in the script, and this side only splits and joins."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from backstay.errors import Misuse
from backstay.telemetry import Histogram, gauge

from ...backend import StoreFailed
from ...rate import Rate, Scale
from ...telemetry import store_duration
from .store import Store
from .wire import bulk

__all__ = ["AsyncRedisBuckets", "RedisBuckets"]

_EXACT = 2**53
_LONGEST_KEY = 200
_SERVER_TIME = bulk(b"0")


class _Terms:
    """One limiter's rate in the script's arguments, and its replies as balances."""

    def __init__(self, store: Store, rate: Rate, *, namespace: str, name: str, time_source: str) -> None:
        if time_source not in {"server", "client"}:
            raise Misuse(f"time must be 'server' or 'client', got {time_source!r}")
        window, rest = rate.split(rate.capacity)
        # The script adds two rests, and to a moment (below 2^52 us until the year 2112) at most two windows.
        if 2 * rate.count > _EXACT or 2**52 + 2 * window > _EXACT:
            raise Misuse(f"rate {rate} takes over 71 years to fill its burst, more than Redis can count exactly")
        self.store = store
        self.rate = rate
        self.scale: Scale = rate.server
        self.last_balance = 0
        self.skew = 0.0
        self._prefix = f"backstay:{namespace}:limit:1:{{{name}:"
        self._tails: dict[int, bytes] = {}
        self._burst = b"".join(bulk(b"%d" % number) for number in (window, rest, rate.count))
        self._borrows = time_source == "client"
        self.borrowed: Callable[[], bytes] = _client_time if self._borrows else _server_time
        self._name, self._namespace = name, namespace
        self.took = store_duration(name, name, "redis")
        self._failures: dict[str, Histogram] = {}
        if self._borrows:
            gauge("rate_limiter.clock.skew", "s", self._read_skew, resource=name, policy_name=name)

    def body(self, key: str, cost: int) -> bytes:
        """Return key and first five arguments in the protocol."""
        tail = self._tails.get(cost)
        if tail is None:
            whole, rest = self.rate.split(cost)
            tail = bulk(b"%d" % whole) + bulk(b"%d" % rest) + self._burst
            if len(self._tails) < 64:
                self._tails[cost] = tail
        if len(key) > _LONGEST_KEY:
            key = hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
        named = (self._prefix + key + "}").encode()
        return b"$%d\r\n%b\r\n%b" % (len(named), named, tail)

    def balance(self, answer: list[int]) -> int:
        """Return the balance that an answer of the script stands for."""
        status, tat, rem, now = answer
        balance = (tat - now) * self.rate.count + rem
        if status != 1:
            balance = self.scale.window - balance
        else:
            self.last_balance = balance
        if self._borrows:
            self.skew = (now - time.time_ns() // 1000) / 1_000_000
        return balance

    def failed(self, failure: StoreFailed, seconds: float) -> None:
        """Count a call that got no answer."""
        if failure.reason not in self._failures:
            self._failures[failure.reason] = store_duration(self._name, self._name, "redis", failure.reason)
        self._failures[failure.reason].record(seconds)

    def _read_skew(self) -> float:
        return self.skew

    def utilization(self) -> float:
        """Return how empty the bucket that was charged last is, 0 to 1."""
        return self.last_balance / self.scale.window


def _server_time() -> bytes:
    return _SERVER_TIME


def _client_time() -> bytes:
    # Declared by `time="client"`: the wall clock is the only one that processes have in common.
    return bulk(b"%d" % (time.time_ns() // 1000))


class RedisBuckets:
    """Buckets of one limiter on Redis, blocking make.

    Guarantees: exact on the server's clock under any number of processes (RL-1 to RL-4); one key a bucket
    with two integers, gone when it is full again (RL-5); at most the store's budget a call (RL-8).

    Args:
        store: the server.
        rate: of each bucket.
        namespace: keeps applications on one server apart.
        name: the limiter's.
        time_source: `server`, or `client` where the server refuses `TIME` to scripts.
    """

    def __init__(self, store: Store, rate: Rate, *, namespace: str, name: str, time_source: str = "server") -> None:
        self._terms = _Terms(store, rate, namespace=namespace, name=name, time_source=time_source)
        self.store = store
        self.rate = rate
        self.scale = self._terms.scale
        self.utilization = self._terms.utilization

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the bucket of `key` and return the balance (see `backend`)."""
        terms, store = self._terms, self.store
        deadline = store.enter()
        try:
            answer = store.ask(terms.body(key, cost), terms.borrowed, deadline)
        except StoreFailed as failure:
            store.settle(failure)
            terms.failed(failure, store.clock() - deadline + store.budget)
            raise
        if store.gate.troubled:
            store.settle(None)
        terms.took.record(store.clock() - deadline + store.budget)
        return terms.balance(answer)


class AsyncRedisBuckets:
    """Buckets of one limiter on Redis, asyncio make: as `RedisBuckets`, and usable from any number of loops."""

    def __init__(self, store: Store, rate: Rate, *, namespace: str, name: str, time_source: str = "server") -> None:
        self._terms = _Terms(store, rate, namespace=namespace, name=name, time_source=time_source)
        self.store = store
        self.rate = rate
        self.scale = self._terms.scale
        self.utilization = self._terms.utilization

    async def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the bucket of `key` and return the balance (see `backend`)."""
        terms, store = self._terms, self.store
        deadline = store.enter()
        try:
            answer = await store.ask_async(terms.body(key, cost), terms.borrowed, deadline)
        except StoreFailed as failure:
            store.settle(failure)
            terms.failed(failure, store.clock() - deadline + store.budget)
            raise
        if store.gate.troubled:
            store.settle(None)
        terms.took.record(store.clock() - deadline + store.budget)
        return terms.balance(answer)
