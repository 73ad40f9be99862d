"""The token bucket as a strategy of `limits`, in memory: exact, by name, and with the manners of its interface."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import limits
import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.strategies
import pytest
from hypothesis import given, settings, strategies as st

from backstay.errors import Misuse
from backstay.resilience import Rate
from backstay.resilience.limits import (
    TOKEN_BUCKET,
    AsyncTokenBucketRateLimiter,
    StorageUnsupported,
    TokenBucketRateLimiter,
    register,
)
from backstay.resilience.rate_limiting.strategies.stores import InProcess
from unit.resilience.oracle import Oracle

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


class Blocking:
    """The blocking strategy with the face that the tests use."""

    def __init__(self, clock: Clock) -> None:
        self.storage: Any = limits.storage.MemoryStorage()
        self.strategy: Any = TokenBucketRateLimiter(self.storage, clock_ns=clock)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.strategy, name)
        return method

    def reset(self) -> Any:
        return self.storage.reset()


class OfAsyncio(Blocking):
    """The asyncio strategy, each call in a loop of its own."""

    def __init__(self, clock: Clock) -> None:
        self.storage = limits.aio.storage.MemoryStorage()
        self.strategy = AsyncTokenBucketRateLimiter(self.storage, clock_ns=clock)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Awaitable[Any]] = getattr(self.strategy, name)

        async def waited(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run(waited(*args, **kwargs))

    def reset(self) -> Any:
        async def waited() -> Any:
            return await self.storage.reset()

        return asyncio.run(waited())


@pytest.fixture(params=[Blocking, OfAsyncio])
def clock_and_limiter(request: pytest.FixtureRequest) -> tuple[Clock, Any]:
    clock = Clock()
    return clock, request.param(clock)


def test_the_name_is_in_both_tables_and_the_strategies_of_limits_stay() -> None:
    tables: list[Any] = [limits.strategies.STRATEGIES, limits.aio.strategies.STRATEGIES]
    before = [dict(table) for table in tables]
    register()
    assert [dict(table) for table in tables] == before
    assert tables[0][TOKEN_BUCKET] is TokenBucketRateLimiter
    assert tables[1][TOKEN_BUCKET] is AsyncTokenBucketRateLimiter
    assert {"fixed-window", "moving-window", "sliding-window-counter"} < set(tables[0])


def test_RL2_the_rows_of_P1_to_P3_through_the_strategy() -> None:
    """A saturating client gets burst + rate x time; the burst of an item is its amount."""
    for text, step_ns, steps, admitted in [
        ("1000/second", 60_000, 5000, 1000 + 299),  # P1: 5,000 calls in 0.3 s, the last at 0.29994 s
        ("3/2 second", SECOND // 2, 1201, 903),  # P2: 90 a minute, burst 3, asked each 0.5 s for 600 s
        ("100/second", SECOND // 1000, 3001, 400),  # P3: 100 a second, bucket 100, for 3 s
    ]:
        clock = Clock()
        limiter = TokenBucketRateLimiter(limits.storage.MemoryStorage(), clock_ns=clock)
        item = limits.parse(text)
        granted = 0
        for _ in range(steps):
            granted += limiter.hit(item, "user")
            clock.now += step_ns
        assert granted == admitted, text


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 50),
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(0, 10 * SECOND), st.integers(1, 60)), max_size=60),
)
def test_RL1_decisions_and_stats_equal_those_of_the_fractions(
    amount: int, multiples: int, steps: list[tuple[int, int]]
) -> None:
    clock = Clock()
    limiter = TokenBucketRateLimiter(limits.storage.MemoryStorage(), clock_ns=clock)
    item = limits.RateLimitItemPerSecond(amount, multiples)
    oracle = Oracle(Rate(count=amount, period=float(multiples)))
    for pause, cost in steps:
        clock.now += pause
        oracle.charge(Fraction(clock.now, SECOND), 10**9)  # lets the time pass and takes nothing
        assert limiter.test(item, "k", cost=cost) == (oracle.tokens >= cost)
        allowed = cost <= amount and oracle.charge(Fraction(clock.now, SECOND), cost)[0]
        assert limiter.hit(item, "k", cost=cost) == allowed
        assert limiter.get_window_stats(item, "k").remaining == math.floor(oracle.tokens)


def test_RL12_the_reset_is_the_next_token_rounded_up_to_whole_seconds(
    clock_and_limiter: tuple[Clock, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, limiter = clock_and_limiter
    monkeypatch.setattr("time.time_ns", lambda: 1_000_250_000_000)
    item = limits.parse("5/2 second")  # a token each 0.4 s
    assert tuple(limiter.get_window_stats(item, "k")) == (1001, 5)
    assert [limiter.hit(item, "k") for _ in range(6)] == [True] * 5 + [False]
    stats = limiter.get_window_stats(item, "k")
    assert tuple(stats) == (1001, 0)
    assert type(stats.reset_time) is int
    monkeypatch.setattr("time.time_ns", lambda: 1_000_750_000_000)
    assert limiter.get_window_stats(item, "k").reset_time == 1002  # 1001.15, never 1001: a retry then would be refused
    clock.now += SECOND * 4 // 10
    assert limiter.hit(item, "k")


def test_the_manners_of_the_interface(clock_and_limiter: tuple[Clock, Any]) -> None:
    _, limiter = clock_and_limiter
    item, other = limits.parse("3/hour"), limits.parse("2/hour")
    assert not limiter.hit(item, "a", cost=4)  # more than the bucket holds, and nothing is taken
    assert limiter.hit(item, "a", cost=0)
    assert limiter.hit(item, "a", cost=3)
    assert not limiter.hit(item, "a")
    assert not limiter.test(item, "a")
    assert limiter.hit(item, "b")  # another identifier, another bucket
    assert limiter.hit(other, "a", cost=2)  # another item too
    limiter.clear(item, "a")
    assert limiter.get_window_stats(item, "a").remaining == 3
    assert limiter.get_window_stats(other, "a").remaining == 0
    assert limiter.test(item, "a", cost=3)
    assert limiter.test(item, "a", cost=3)  # testing takes nothing
    limiter.clear(item, "a")
    limiter.clear(item, "a")
    assert limiter.get_window_stats(item, "a").remaining == 3  # clearing mints nothing above full


def test_resetting_the_storage_empties_the_buckets_and_what_else_it_holds(
    clock_and_limiter: tuple[Clock, Any],
) -> None:
    _, limiter = clock_and_limiter
    item = limits.parse("1/hour")
    assert limiter.hit(item, "a")
    assert not limiter.hit(item, "a")
    limiter.storage.storage["another strategy's counter"] = 7
    assert limiter.reset() == 2
    assert "another strategy's counter" not in limiter.storage.storage
    assert limiter.hit(item, "a")


def test_strategies_on_one_storage_share_its_buckets_and_others_do_not() -> None:
    storage, item = limits.storage.MemoryStorage(), limits.parse("1/hour")
    assert TokenBucketRateLimiter(storage).hit(item, "a")
    assert not TokenBucketRateLimiter(storage).hit(item, "a")
    assert limits.strategies.FixedWindowRateLimiter(storage).hit(item, "a")  # keys have their own ending
    assert TokenBucketRateLimiter(limits.storage.MemoryStorage()).hit(item, "a")


def test_a_storage_stays_picklable_and_is_let_go() -> None:
    storage = limits.storage.MemoryStorage()
    limiter = TokenBucketRateLimiter(storage)
    item = limits.parse("1/hour")
    assert limiter.hit(item, "a")
    copy = pickle.loads(pickle.dumps(storage))
    assert TokenBucketRateLimiter(copy).hit(item, "a")
    assert copy.reset() == 1
    assert not limiter.hit(item, "a")  # the copy's reset is the copy's


def test_rates_made_from_requests_do_not_pile_up() -> None:
    clock = Clock()
    buckets = InProcess(clock)
    for count in range(1, 1001):
        assert buckets.hit(limits.RateLimitItemPerSecond(count), ("k",), 1)
    with pytest.raises(Misuse, match="over 1000 different rates"):
        buckets.hit(limits.RateLimitItemPerSecond(5000), ("k",), 1)
    clock.now += 2 * SECOND  # all buckets are full again
    assert buckets.hit(limits.RateLimitItemPerSecond(5000), ("k",), 1)
    assert len(buckets._rates) == 1


@pytest.mark.parametrize("wrong", [object(), None, "memory://"])
@pytest.mark.parametrize("strategy", [TokenBucketRateLimiter, AsyncTokenBucketRateLimiter])
def test_bad_storages_are_refused_when_the_strategy_is_made(strategy: Any, wrong: object) -> None:
    with pytest.raises(StorageUnsupported, match="RedisStorage") as refused:
        strategy(wrong)
    assert isinstance(refused.value, NotImplementedError)


def test_the_colours_are_not_mixed_up() -> None:
    with pytest.raises(StorageUnsupported, match=r"limits\.storage"):
        TokenBucketRateLimiter(limits.aio.storage.MemoryStorage())
    with pytest.raises(StorageUnsupported, match=r"limits\.aio\.storage"):
        AsyncTokenBucketRateLimiter(limits.storage.MemoryStorage())


def test_coredis_is_refused_with_the_cure() -> None:
    """A stand-in for the bridge: coredis itself is not needed to be told apart."""

    class CoredisBridge:
        __module__ = "limits.aio.storage.redis.coredis"

    storage: Any = object.__new__(limits.aio.storage.RedisStorage)
    storage.bridge = CoredisBridge()
    with pytest.raises(StorageUnsupported, match="implementation='redispy'"):
        AsyncTokenBucketRateLimiter(storage)
