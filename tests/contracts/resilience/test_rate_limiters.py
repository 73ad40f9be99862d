"""The rate limiter's contract over memory, the shipped script, and Redis, on both faces."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
import redis

from backstay.resilience import AsyncRateLimiter, Rate, RateLimiter
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.testing.resilience import RateLimiterContract
from unit.resilience.lua_redis import LuaRedis, lua_buckets


class _InMemory(RateLimiterContract):
    @pytest.fixture(autouse=True)
    def _empty(self) -> None:
        self.now_ns = 10**15
        self.kept: dict[tuple[str, str], MemoryBuckets] = {}

    def buckets(self, rate: object, name: str, namespace: str) -> MemoryBuckets:
        made = MemoryBuckets(Rate.of(rate), clock_ns=lambda: self.now_ns)
        return self.kept.setdefault((namespace, name), made)

    def advance(self, seconds: Fraction) -> None:
        self.now_ns += int(seconds * 10**9)


class TestMemory(_InMemory):
    def connect(self, rate: object, *, name: str = "limit", namespace: str = "contract") -> RateLimiter:
        return RateLimiter(self.buckets(rate, name, namespace), name=name)

    def run(self, result: Any) -> Any:
        return result


class TestMemoryAsync(_InMemory):
    def connect(self, rate: object, *, name: str = "limit", namespace: str = "contract") -> AsyncRateLimiter:
        return AsyncRateLimiter(self.buckets(rate, name, namespace), name=name)

    def run(self, result: Any) -> Any:
        return asyncio.run(result)


class TestScript(RateLimiterContract):
    @pytest.fixture(autouse=True)
    def _server(self) -> None:
        self.server = LuaRedis()

    def connect(self, rate: object, *, name: str = "limit", namespace: str = "contract") -> RateLimiter:
        return RateLimiter(lua_buckets(self.server, Rate.of(rate), name=f"{namespace}.{name}"), name=name)

    def run(self, result: Any) -> Any:
        return result

    def advance(self, seconds: Fraction) -> None:
        self.server.now_us += int(seconds * 10**6)


class _OnRedis(RateLimiterContract):
    slack = 5.0

    @pytest.fixture(autouse=True)
    def _url(self, redis_url: str) -> Iterator[None]:
        self.url = redis_url
        self.client = redis.Redis.from_url(redis_url)
        self.prefix = uuid.uuid4().hex[:8]
        yield
        self.client.close()

    def advance(self, seconds: Fraction) -> None:
        """Move every bucket into the past, which is the same as moving the clock: only differences count."""
        for key in self.client.scan_iter("backstay:*"):
            value: Any = self.client.get(key)
            tat, rest = value.split(maxsplit=1)
            self.client.set(key, b"%d %b" % (int(tat) - int(seconds * 10**6), rest), keepttl=True)


class TestRedis(_OnRedis):
    def connect(self, rate: object, *, name: str = "limit", namespace: str = "contract") -> RateLimiter:
        return RateLimiter.connect(
            self.url, rate=rate, name=name, namespace=self.prefix + namespace, budget=2.0, on_store_failure="closed"
        )

    def run(self, result: Any) -> Any:
        return result


class TestRedisAsync(_OnRedis):
    @pytest.fixture(autouse=True)
    def _loop(self, _url: None) -> Iterator[None]:
        self.made: list[AsyncRateLimiter] = []
        with asyncio.Runner() as runner:
            self.runner = runner
            yield
            for limiter in self.made:
                runner.run(limiter.close())

    def connect(self, rate: object, *, name: str = "limit", namespace: str = "contract") -> AsyncRateLimiter:
        limiter = AsyncRateLimiter.connect(
            self.url, rate=rate, name=name, namespace=self.prefix + namespace, budget=2.0, on_store_failure="closed"
        )
        self.made.append(limiter)
        return limiter

    def run(self, result: Any) -> Any:
        return self.runner.run(result)


@pytest.mark.parametrize("make", [RateLimiter, AsyncRateLimiter])
def test_connect_shares_a_name_in_memory_over_both_faces(make: Callable[..., Any]) -> None:
    blocking = RateLimiter.connect(rate="1/hour", name="shared-by-name")
    other = make.connect(rate="1/hour", name="shared-by-name")  # type: ignore[attr-defined]  # both faces have it
    blocking.acquire("k")
    outcome = other.try_acquire("k")
    assert not (asyncio.run(outcome) if asyncio.iscoroutine(outcome) else outcome)
