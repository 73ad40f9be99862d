"""A total outage multiplies the load by at most 1.2, beyond the floor (RT-2)."""

from __future__ import annotations

import random
import threading
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from backstay.resilience.retry import Retry, RetrySettings
from backstay.resilience.retry.budget import RetryBudget
from backstay.testing import ManualClock, measured


def failing(attempts: int) -> tuple[Retry, ManualClock]:
    clock = ManualClock()
    return Retry(
        "outage", attempts=attempts, first_wait=0.0, longest_wait=0.0, clock=clock, sleep=lambda s: None
    ), clock


@pytest.mark.parametrize("rate", [1, 50, 2000])
def test_RT2_a_total_outage_multiplies_the_load_by_1_2_at_most(rate: int) -> None:
    retry, clock = failing(5)
    settings = retry.settings
    load: list[tuple[float, bool]] = []  # when, and whether it was a retry
    down = False
    first = False

    @retry
    def call() -> None:
        nonlocal first
        load.append((clock(), not first))
        first = False
        if down:
            raise ConnectionError

    for step in range(20 * rate):
        clock.advance(1 / rate)
        down = step >= 5 * rate  # five good seconds, and then nothing but errors
        first = True
        try:
            call()
        except ConnectionError:
            assert down
    outage = [retried for when, retried in load if when > load[5 * rate][0] - 0.5 / rate]
    retries, calls = sum(outage), len(outage) - sum(outage)
    floor = settings.budget_reserve + settings.budget_floor * 15
    assert 0 < retries <= 0.2 * calls + floor + 1
    if rate == 2000:
        assert len(outage) / calls < 1.21
        # and it does not starve: what the law allows is used
        assert retries >= 0.2 * calls + settings.budget_reserve - 1


@given(steps=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3000), st.integers(0, 8)), min_size=1, max_size=60))
def test_RT2_the_law_holds_in_every_interval(steps: list[tuple[int, int, int]]) -> None:
    """Calls, milliseconds and wishes to retry in turn; the model is exact and puts in at once, not when it is asked."""
    budget = RetryBudget(ratio=0.25, reserve=8, floor=0.5, now=0.0)
    tokens, calls, millis = Fraction(8), 0, 0
    taken: list[tuple[int, int]] = []
    for new_calls, waited, wishes in steps:
        calls += new_calls
        millis += waited
        tokens = min(Fraction(8), tokens + Fraction(new_calls, 4) + Fraction(waited, 2000))
        for _ in range(wishes):
            allowed = tokens >= 1
            near = abs(tokens - round(tokens)) < Fraction(1, 10**6)
            took = budget.take(millis / 1000, calls)
            assert took == allowed or near
            if took:
                tokens -= 1
                taken.append((calls, millis))
    for i, (calls_before, since) in enumerate(taken):
        for j in range(i, len(taken)):
            allowed_between = 8 + 0.25 * (taken[j][0] - calls_before) + 0.5 * (taken[j][1] - since) / 1000
            assert j - i + 1 <= allowed_between + 1e-6


def test_RT2_threads_take_no_retry_twice() -> None:
    budget = RetryBudget(ratio=0.2, reserve=1000, floor=0.0, now=0.0)
    taken: list[bool] = []

    def take() -> None:
        taken.extend([budget.take(0.0, 1000) for _ in range(500)])

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), sum(taken)) == (4000, 1000)


def test_RT2_a_call_without_budget_ends_with_its_own_error_and_says_why() -> None:
    retry, _ = failing(3)
    retry.reconfigure(RetrySettings(attempts=3, first_wait=0.0, budget_reserve=1, budget_floor=0.0))

    @retry
    def call() -> None:
        raise ConnectionError("down")

    with measured() as counts:
        with pytest.raises(ConnectionError) as first:
            call()
        with pytest.raises(ConnectionError) as second:
            call()
    assert first.value.__notes__ == ["backstay: 'outage' was given up after 2 attempts (budget)"]
    assert second.value.__notes__ == ["backstay: 'outage' was given up after 1 attempt (budget)"]
    assert counts.count("retry.attempts", result="budget") == 3


def test_RT2_good_calls_refill_the_budget() -> None:
    retry, _ = failing(2)
    retry.reconfigure(RetrySettings(attempts=2, budget=0.5, budget_reserve=1, budget_floor=0.0))
    fails = [True, True, True, True, False, False, False, False, True, False]
    outcomes: list[str] = []

    @retry
    def call() -> None:
        if fails.pop(0):
            raise ConnectionError

    while fails:
        try:
            call()
            outcomes.append("good")
        except ConnectionError:
            outcomes.append("bad")
    # one retry is there; the second failure finds half a retry and its own half: that makes one
    assert outcomes == ["bad", "bad", "good", "good", "good", "good", "good"]


def test_RT2_a_forked_child_counts_calls_from_zero() -> None:
    budget = RetryBudget(ratio=0.5, reserve=2, floor=0.0, now=0.0)
    assert [budget.take(0.0, 10_000) for _ in range(3)] == [True, True, False]
    budget.renew()
    assert budget.take(0.0, 2)


def test_RT2_retuning_keeps_what_is_there_and_no_more_than_it_holds() -> None:
    budget = RetryBudget(ratio=0.2, reserve=10, floor=0.0, now=0.0)
    assert all(budget.take(0.0, 0) for _ in range(4))
    budget.retune(ratio=0.2, reserve=100, floor=0.0)
    assert budget.tokens == 6
    budget.retune(ratio=0.2, reserve=3, floor=0.0)
    assert budget.tokens == 3


def test_RT2_an_older_reading_of_the_clock_or_of_the_calls_takes_nothing_away() -> None:
    chance = random.Random(7)
    budget = RetryBudget(ratio=0.2, reserve=5, floor=1.0, now=100.0)
    assert all(budget.take(100.0, 0) for _ in range(5))
    for _ in range(50):
        assert not budget.take(100.0 - chance.random(), 0)
    assert budget.tokens == 0
