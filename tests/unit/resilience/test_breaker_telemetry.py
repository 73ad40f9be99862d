"""What a breaker measures: the rows of section 7.3 and their sums."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

import pytest

from backstay import telemetry
from backstay.resilience.circuit_breaker import CircuitBreaker, CircuitOpen, State
from backstay.testing import ManualClock, measured
from unit.resilience.breaker_ways import Down, Way, every_way, good, run

RESULTS = ["success", "failure", "slow_success", "slow_failure", "ignored", "not_permitted", "neutral"]


def states(name: str) -> dict[str, float]:
    now = telemetry.snapshot()
    return {
        state.value: now.value("circuit_breaker.state", policy_name=name, state=state.value) for state in State
    }  # fmt: skip


@every_way
def test_calls_are_counted_by_result_and_their_sum_is_the_calls_made(way: Way) -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(
        "counted", slow_rate=1.0, slow_after=1, minimum_calls=7, ignored=KeyError, clock=clock, failure_rate=3 / 7
    )
    call = way(breaker)

    def late(act: Any) -> Any:
        clock.advance(1)
        return act()

    def raising(kind: type[BaseException]) -> Any:
        raise kind

    with measured() as counts:
        run(call, "+++-")
        call(lambda: late(good))
        for kind in (Down, KeyError, asyncio.CancelledError):
            with pytest.raises(kind):
                call(partial(late, partial(raising, kind)))
        run(call, "-" + "+++++")
    got = {result: counts.count("circuit_breaker.calls", policy_name="counted", result=result) for result in RESULTS}
    assert got == {
        "success": 3,
        "failure": 2,
        "slow_success": 1,
        "slow_failure": 1,
        "ignored": 1,
        "not_permitted": 5,
        "neutral": 1,
    }
    assert sum(got.values()) == 14
    assert breaker.state is State.OPEN


def test_every_series_carries_the_common_attributes() -> None:
    breaker = CircuitBreaker("attributed", clock=ManualClock())
    breaker.force_open()
    own = [
        reading
        for reading in telemetry.snapshot().readings
        if reading.name.startswith("backstay.circuit_breaker.")
        and ("backstay.policy.name", "attributed") in reading.attributes
    ]
    assert {reading.name.removeprefix("backstay.circuit_breaker.") for reading in own} == {
        "calls", "state", "state.time", "transitions",
    }  # fmt: skip
    for reading in own:
        about = dict(reading.attributes)
        assert (about["backstay.resource"], about["backstay.policy.type"]) == ("attributed", "circuit_breaker")
    (transition,) = [dict(reading.attributes) for reading in own if reading.name.endswith("transitions")]
    assert (transition["backstay.from"], transition["backstay.to"]) == ("closed", "forced_open")
    assert transition["backstay.cause"] == "manual_force_open"


def test_the_sum_of_the_states_is_one_in_every_state() -> None:
    breaker = CircuitBreaker("summed", clock=ManualClock())
    ways = [breaker.open, breaker.half_open, breaker.force_open, breaker.disable, breaker.metrics_only, breaker.close]
    for go in ways:
        go()
        now = states("summed")
        assert sum(now.values()) == 1
        assert now[breaker.state.value] == 1


def test_the_time_in_each_state_adds_up_to_all_the_time() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("timed", clock=clock)
    clock.advance(5)
    breaker.force_open()
    clock.advance(7)
    breaker.close()
    clock.advance(2)

    def spent(state: str) -> float:
        return telemetry.snapshot().value("circuit_breaker.state.time", policy_name="timed", state=state)

    assert (spent("closed"), spent("forced_open"), spent("open")) == (7, 7, 0)


def test_a_child_of_a_fork_counts_its_own_time_and_calls() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("forked", consecutive=1, clock=clock)
    call = breaker(good)
    call()
    clock.advance(100)
    child = os.fork()
    if child == 0:
        clock.advance(1)
        call()
        now = telemetry.snapshot()
        right = (
            now.value("circuit_breaker.state.time", policy_name="forked", state="closed") == 1
            and now.value("circuit_breaker.calls", policy_name="forked", result="success") == 1
        )
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_gauges_of_a_breaker_do_not_outlive_a_refusal() -> None:
    breaker = CircuitBreaker("refusing", clock=ManualClock())
    breaker.force_open()
    with measured() as counts:
        for _ in range(100):
            with pytest.raises(CircuitOpen):
                breaker(good)()
    assert counts.count("circuit_breaker.calls", policy_name="refusing", result="not_permitted") == 100
    assert counts.count("circuit_breaker.calls", policy_name="refusing") == 100
