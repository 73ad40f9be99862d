"""A rate that changes while calls run (RL-11), and the limit as a policy: settings, streams, blocks, nesting (CO-4)."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from backstay.errors import Misuse, RateLimited
from backstay.resilience import AsyncRateLimiter, Rate, RateLimiter
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.resilience.rate_limiting.carry import line
from backstay.resilience.rate_limiting.policy import RateLimit
from backstay.resilience.rate_limiting.settings import RateLimitSettings
from backstay.testing import measured
from unit.resilience.lua_redis import LuaRedis, lua_buckets


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.fixture(params=["memory", "lua"])
def made(request: pytest.FixtureRequest) -> Callable[[str], tuple[RateLimiter, LuaRedis]]:
    def make(rate: str) -> tuple[RateLimiter, LuaRedis]:
        server = LuaRedis()
        if request.param == "memory":
            buckets: Any = MemoryBuckets(Rate.of(rate), clock_ns=lambda: server.now_us * 1000)
        else:
            buckets = lua_buckets(server, Rate.of(rate))
        return RateLimiter(buckets, name=f"change-{request.param}"), server

    return make


@pytest.mark.parametrize(
    ("carry", "rate", "left"),
    [
        ("proportional", "20/hour", 8),  # 4 of 10 become 8 of 20
        ("proportional", "5/hour", 2),
        ("absolute", "20/hour", 4),
        ("absolute", "3/hour", 3),  # never more than the new burst
        ("reset", "20/hour", 20),
        ("reset", "3/hour", 3),
    ],
)
@pytest.mark.parametrize("key", ["", "k"])
def test_RL11_tokens_are_carried_as_chosen(made: Any, carry: Any, rate: str, left: int, key: str) -> None:
    limiter, _ = made("10/hour")
    limiter.acquire(key, 6)
    limiter.reconfigure(rate, carry)
    assert limiter.rate == Rate.of(rate)
    assert limiter.try_acquire(key).remaining == left - 1
    assert [limiter.try_acquire(key).allowed for _ in range(left)] == [True] * (left - 1) + [False]
    with pytest.raises(RateLimited, match=f"over {Rate.of(rate)}"):
        limiter.acquire(key)


def test_RL11_a_full_bucket_stays_full_and_an_empty_one_fills_by_the_new_rate(made: Any) -> None:
    limiter, server = made("10/hour")
    limiter.acquire("empty", 10)
    limiter.reconfigure("3600/hour")
    assert not limiter.try_acquire("empty")
    server.now_us += 5_000_000
    assert limiter.try_acquire("empty", 5).allowed
    assert not limiter.try_acquire("empty")
    assert limiter.try_acquire("new", 3600).allowed


def test_RL11_a_cost_above_the_new_burst_is_never_granted(made: Any) -> None:
    limiter, _ = made("10/hour")
    limiter.reconfigure("3/hour")
    with pytest.raises(Misuse, match="raise the burst"):
        limiter.acquire("k", 4)
    assert limiter.buckets.charge("fresh", 4) <= 0  # a call that was checked under the old rate


@settings(max_examples=200, deadline=None)
@given(
    st.builds(Rate, count=st.integers(1, 10**6), period=st.integers(1, 10**5), burst=st.integers(1, 10**6)),
    st.builds(Rate, count=st.integers(1, 10**6), period=st.integers(1, 10**5), burst=st.integers(1, 10**6)),
    st.sampled_from(["proportional", "absolute", "reset"]),
    st.fractions(0, 2),
)
def test_RL11_carrying_is_exact_to_the_microsecond_and_never_mints(old: Rate, new: Rate, carry: Any, full: Any) -> None:
    missing_us = full * old.capacity * old.period_us / old.count  # above 1: in debt to those who wait
    units = old.count
    at = int(missing_us * units)
    carried = line(old, new, carry, units)(at)
    tokens = old.capacity - Fraction(at, units) * old.count / old.period_us
    expected = {
        "proportional": tokens * new.capacity / old.capacity,
        "absolute": min(tokens, Fraction(new.capacity)),
        "reset": Fraction(new.capacity),
    }[carry]
    if at == 0:
        expected = Fraction(new.capacity)
    became = new.capacity - Fraction(carried) * new.count / new.period_us
    assert became <= expected
    assert became <= new.capacity
    assert expected - became < Fraction(new.count, new.period_us)


def test_RL11_800_changes_under_threads_admit_exactly_the_burst_and_tell_no_mixture() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    slow, quick = Rate.of("1/hour;burst=1000"), Rate.of("7000/second;burst=1000")
    limiter = RateLimiter(MemoryBuckets(slow, clock_ns=lambda: 10**12), name="mixture")
    admitted, waits, stop = [0] * 4, set[float](), threading.Event()

    def work(place: int) -> None:
        while not stop.is_set():
            try:
                limiter.acquire("k")
            except RateLimited as refusal:
                waits.add(round(refusal.retry_after or 0, 9))
            else:
                admitted[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(400):
            limiter.reconfigure(quick)
            limiter.reconfigure(slow)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert sum(admitted) <= 1000
    # Rounding up to whole microseconds makes a bucket later full, by a token's time of the quicker rate at most.
    assert all(wait <= 0.01 or 3599 <= wait <= 3_600_000 for wait in waits), sorted(waits)[:10]


def test_RL11_a_refusal_under_way_at_the_first_change_is_told_by_the_rate_that_refused_it() -> None:
    limiter = RateLimiter(MemoryBuckets(Rate.of("1/hour"), clock_ns=lambda: 10**12), name="under-way")
    limiter.acquire()
    balance = limiter.charge("", 1)
    limiter.reconfigure("7000/second")
    refusal = limiter.refuse(balance)
    assert refusal.retry_after == 3600
    assert "over 1 per 3600 second" in str(refusal)


def test_RL11_two_deployments_with_two_rates_mint_nothing() -> None:
    server = LuaRedis()
    old, new = lua_buckets(server, Rate.of("10/hour")), lua_buckets(server, Rate.of("20/hour"))
    admitted = sum(each.charge("k", 1) > 0 for _ in range(100) for each in (old, new))
    assert admitted <= 20


def test_RL11_a_value_without_its_rate_is_read_as_one_of_this_rate() -> None:
    server = LuaRedis()
    key = b"backstay:test:limit:1:{limit:k}"
    server.entries[key] = (b"%d 0" % (server.now_us + 3_600_000_000), float("inf"))
    assert lua_buckets(server, Rate.of("10/hour")).charge("k", 1) <= 0


@pytest.mark.parametrize(("rate", "carry"), [("often", "reset"), ("1/hour", "some"), (None, "reset")])
def test_RL11_a_wrong_change_is_refused_and_changes_nothing(made: Any, rate: Any, carry: Any) -> None:
    limiter, _ = made("10/hour")
    with pytest.raises(Misuse):
        limiter.reconfigure(rate, carry)
    assert limiter.rate == Rate.of("10/hour")


def test_RL9_a_change_holds_the_lock_of_a_sixteenth_of_the_keys_only() -> None:
    buckets = MemoryBuckets(Rate.of("1/hour;burst=5"), clock_ns=lambda: 10**12)
    for number in range(20_000):
        buckets.charge(f"key-{number}", 1)
    assert max(len(part.tats) for part in buckets._parts) < 20_000 / 16 * 1.3
    buckets.reconfigure(Rate.of("1/hour;burst=10"), "proportional")
    assert all(buckets.charge(f"key-{number}", 9) < 0 for number in range(0, 20_000, 997))
    assert all(buckets.charge(f"key-{number}", 8) > 0 for number in range(0, 20_000, 997))


# --- the policy -------------------------------------------------------------------------------------------


def coloured(colour: str, body: Callable[[], Any]) -> Callable[[], Any]:
    if colour == "def":
        return body

    async def asynchronous() -> Any:
        result = body()
        return await result if inspect.iscoroutine(result) else result

    return asynchronous


@pytest.fixture(params=["def", "async def"])
def colour(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:100]


@pytest.mark.parametrize(
    "value",
    ["100/second;burst=200", {"rate": "100/second;burst=200"}, Rate(count=100, burst=200)],
)
def test_settings_are_read_from_every_form(value: Any) -> None:
    found = RateLimitSettings.of(value)
    assert found.rate == Rate(count=100, burst=200)
    assert RateLimitSettings.of(found) is found


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (7, "a rate is written like"),
        ({"rate": "1/hour", "brust": 2}, "known: .*budget"),
        ({}, "needs 'rate'"),
        ({"rate": "1/hour", "cost": 2}, "raise the burst"),
        ({"rate": "1/hour", "wait": -1}, "wait"),
        ({"rate": "1/hour", "carry": "half"}, "carry"),
        ({"rate": "1/hour", "on_store_failure": "ajar"}, "on_store_failure"),
    ],
)
def test_wrong_settings_name_the_cure(value: Any, match: str) -> None:
    with pytest.raises(Misuse, match=match):
        RateLimitSettings.of(value)


def test_a_limit_is_a_decorator_a_block_and_a_stream(colour: str, name: str) -> None:
    limit = RateLimit(name, rate="3/hour")
    assert call(limit(coloured(colour, lambda: "done"))) == "done"
    if colour == "def":
        with limit.admission():
            pass
        list(limit(_items)())
    else:

        async def rest() -> None:
            async with limit.admission():
                pass
            async for _ in limit(_items_async)():
                pass

        asyncio.run(rest())
    with pytest.raises(RateLimited):
        call(limit(coloured(colour, lambda: "done")))


def _items() -> Iterator[int]:
    yield 1


async def _items_async() -> AsyncIterator[int]:
    yield 1


def test_RL11_a_policy_goes_over_to_other_settings_while_it_runs(colour: str, name: str) -> None:
    limit = RateLimit(name, rate="10/hour", carry="absolute")
    function = limit(coloured(colour, lambda: "done"))
    call(function)
    limit.reconfigure(RateLimitSettings(rate="20/hour", cost=3, carry="absolute"))
    assert [_passes(function) for _ in range(4)] == [True, True, True, False]  # 9 tokens, 3 a call
    assert limit.settings.cost == 3
    with pytest.raises(Misuse, match="make a new limit"):
        limit.reconfigure(RateLimitSettings(rate="1/hour", store="redis://localhost"))
    assert limit.settings.rate == Rate.of("20/hour")


def _passes(function: Callable[[], Any]) -> bool:
    try:
        call(function)
    except RateLimited:
        return False
    return True


def test_CO4_a_limit_inside_itself_charges_once(colour: str, name: str) -> None:
    limit = RateLimit(name, rate="2/hour")
    inner = limit(coloured(colour, lambda: "done"))
    outer = limit(coloured(colour, lambda: [inner(), inner()][0]))
    with measured() as seen:
        if colour == "async def":

            async def both() -> str:
                await inner()
                return str(await inner())

            outer = limit(both)
        assert call(outer) == "done"
        assert call(outer) == "done"
        assert not _passes(outer)
        assert not _passes(inner)
    assert seen.count("rate_limiter.requests", policy_name=name, result="acquired") == 2


def test_CO4_a_block_round_a_function_charges_once(name: str) -> None:
    limit = RateLimit(name, rate="1/hour")
    function = limit(lambda: "done")
    with limit.admission():
        assert function() == "done"
    assert not _passes(function)


def test_CO4_another_key_is_another_bucket_and_is_charged(name: str) -> None:
    limit = RateLimit(name, rate="1/hour", key="{user}")
    inner = limit(lambda user: user)
    outer = limit(lambda user: [inner(user), inner("other")])
    assert outer("a") == ["a", "other"]
    with pytest.raises(RateLimited):
        inner("other")


def test_CO4_a_task_that_outlives_its_call_is_charged_again(name: str) -> None:
    limit = RateLimit(name, rate="2/hour")

    async def main() -> list[bool]:
        go = asyncio.Event()

        @limit
        async def inner() -> bool:
            return True

        async def later() -> list[bool]:
            await go.wait()
            found: list[bool] = []
            for _ in range(2):
                try:
                    found.append(await inner())
                except RateLimited:
                    found.append(False)
            return found

        @limit
        async def outer() -> asyncio.Task[list[bool]]:
            return asyncio.create_task(later())

        task = await outer()
        go.set()
        return await task

    assert asyncio.run(main()) == [True, False]


def test_a_blocking_remote_limiter_is_refused_round_async_code_and_the_other_way_round() -> None:
    url = "redis://127.0.0.1:1"
    blocking = RateLimit("refused", limiter=RateLimiter.connect(url, rate="1/hour", name="refused"))
    asynchronous = RateLimit("refused", limiter=AsyncRateLimiter.connect(url, rate="1/hour", name="refused"))
    with pytest.raises(Misuse, match="AsyncRateLimiter"):
        blocking(coloured("async def", lambda: 1))
    with pytest.raises(Misuse, match="RateLimiter"):
        asynchronous(coloured("def", lambda: 1))
