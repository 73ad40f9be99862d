"""RL-1 and RL-2: decisions equal those of a bucket in fractions, in memory and in the shipped Lua."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings, strategies as st

from backstay.resilience import Rate
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from unit.resilience.lua_redis import LuaRedis, lua_buckets
from unit.resilience.oracle import Oracle

DAY = 86_400


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """From 1 a day to 10^6 a second, burst 1 to 10^6."""
    count = draw(st.integers(1, 1_000_000) | st.sampled_from([1, 7, 60, 1_000_000, 999_983]))
    period_us = draw(st.sampled_from([1_000, 10_000, 1_000_000, 60_000_000, DAY * 1_000_000]) | st.integers(1, 10**11))
    burst = draw(st.integers(1, 1_000_000) | st.just(1))
    return Rate(count=count, period=timedelta(microseconds=period_us), burst=burst)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Rate, list[tuple[int, int]]]:
    """A rate, and steps of (microseconds passed, cost). Steps of about a token's time find the edges."""
    rate = draw(rates())
    token_us = max(1, rate.period_us // rate.count)
    pause = (
        st.integers(0, 3)
        | st.integers(max(0, token_us - 2), token_us + 2)
        | st.integers(0, min(10**12, 3 * token_us * rate.capacity))
    )
    cost = st.integers(1, rate.capacity) | st.just(1) | st.just(rate.capacity)
    return rate, draw(st.lists(st.tuples(pause, cost), min_size=1, max_size=40))


@settings(max_examples=300, deadline=None)
@given(histories())
def test_RL1_memory_equals_the_bucket_in_fractions(history: tuple[Rate, list[tuple[int, int]]]) -> None:
    rate, steps = history
    now_us = 10**9
    buckets = MemoryBuckets(rate, clock_ns=lambda: now_us * 1000)
    oracle = Oracle(rate)
    for pause, cost in steps:
        now_us += pause
        balance = buckets.charge("k", cost)
        assert buckets.charge("", cost) == balance  # the lone bucket takes a path of its own
        allowed, wait = oracle.charge(Fraction(now_us, 10**6), cost)
        assert (balance > 0) == allowed
        if allowed:
            full = (oracle.capacity - oracle.tokens) / oracle.per_second
            assert Fraction(balance, buckets.scale.second) == full
        else:
            assert Fraction(-balance, buckets.scale.second) == wait


@settings(max_examples=150, deadline=None)
@given(histories())
def test_RL1_the_script_equals_the_bucket_in_fractions(history: tuple[Rate, list[tuple[int, int]]]) -> None:
    rate, steps = history
    assume(rate.split(rate.capacity)[0] < 2**51)  # over 71 years to fill: refused
    server = LuaRedis()
    buckets = lua_buckets(server, rate)
    oracle = Oracle(rate)
    for pause, cost in steps:
        server.now_us += pause
        balance = buckets.charge("k", cost)
        allowed, wait = oracle.charge(Fraction(server.now_us, 10**6), cost)
        assert (balance > 0) == allowed
        if not allowed:
            assert Fraction(-balance, buckets.scale.second) == wait


@pytest.mark.parametrize(
    ("text", "calls"),
    [("7 per 60 second", 1_000_000), ("1000003/second;burst=11", 200_000), ("1/day;burst=3", 200_000)],
)
def test_RL1_a_million_calls_drift_by_nothing(text: str, calls: int) -> None:
    rate = Rate.of(text)
    now_ns = 0
    charge = MemoryBuckets(rate, clock_ns=lambda: now_ns).charger()
    step_ns = rate.period_us * 1_000_000 // (rate.count * 1009)  # a little less than a token's time, never in step
    admitted = 0
    for now_ns in range(0, calls * step_ns, step_ns):  # noqa: B007  # the clock reads it
        if charge("k", 1) > 0:
            admitted += 1
    # A caller that asks more often than tokens come gets burst + rate x time, rounded down to whole tokens.
    assert step_ns < Fraction(rate.period_us * 1000, rate.count)
    assert admitted == rate.capacity + int(Fraction(now_ns * rate.count, rate.period_us * 1000))


# RL-2: the rows are the failures that were reproduced in other libraries (P1 to P3): rate, poll interval in us, calls.
LAW = [
    ("1000/second;burst=100", 60, 5_000),  # P1: admitted 5,000 of 5,000 in 0.3 s
    ("90/minute;burst=3", 500_000, 1_200),  # P2: 602 instead of 902
    ("100/second;burst=10", 100, 30_000),  # P2: 40 instead of 310
    ("100/second;burst=100", 1_000, 3_000),  # P3: 698 instead of 400
    ("100/second;burst=10", 1_000, 3_000),  # P3: 608 instead of 310
]


@pytest.mark.parametrize(("text", "step_us", "calls"), LAW)
@pytest.mark.parametrize("kept", ["memory", "lua"])
def test_RL2_the_window_law(kept: str, text: str, step_us: int, calls: int) -> None:
    rate = Rate.of(text)
    server = LuaRedis()
    start_us = server.now_us
    if kept == "memory":
        charge = MemoryBuckets(rate, clock_ns=lambda: server.now_us * 1000).charge
    else:
        charge = lua_buckets(server, rate).charge
    admitted: list[int] = []
    for number in range(calls):
        server.now_us = start_us + number * step_us
        if charge("k", 1) > 0:
            admitted.append(server.now_us)
    whole = Fraction((calls - 1) * step_us, rate.period_us) * rate.count
    assert len(admitted) in {rate.capacity + int(whole), rate.capacity + int(whole) - 1}
    assert_law(rate, [(moment, 1) for moment in admitted])


def assert_law(rate: Rate, log: list[tuple[int, int]]) -> None:
    """Check every interval of a log of (server microseconds, cost): admitted <= burst + rate x (b - a).

    With S the running sum of costs, the law for all intervals is that S(before b's end) - rate x b never exceeds
    the smallest S(before a) - rate x a so far by more than the burst: one pass instead of all pairs.
    """
    spent, lowest = 0, None
    for moment, cost in log:
        drawn = spent * rate.period_us - rate.count * moment
        lowest = drawn if lowest is None else min(lowest, drawn)
        spent += cost
        assert spent * rate.period_us - rate.count * moment - lowest <= rate.capacity * rate.period_us
