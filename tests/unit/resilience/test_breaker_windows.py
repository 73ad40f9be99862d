"""When a breaker opens: rates over seconds and over calls, slow calls, failures in a row (CB-1, CB-2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.resilience.circuit_breaker import (
    BreakerOptions,
    BreakerSettings,
    Cause,
    CircuitBreaker,
    State,
    Transition,
)
from backstay.testing import ManualClock
from unit.resilience.breaker_ways import Down, Way, bad, by_coroutine, by_function, every_way, good, run

QUICK_WAYS = pytest.mark.parametrize("way", [by_function, by_coroutine])


def breaker_of(clock: ManualClock, seen: list[Transition] | None = None, **options: Any) -> CircuitBreaker:
    given: BreakerOptions = {"open_jitter": 0, **options}  # type: ignore[typeddict-item]
    return CircuitBreaker("payments", clock=clock, listeners=[] if seen is None else [seen.append], **given)


@every_way
def test_CB1_opens_when_the_rate_reaches_the_threshold_and_not_below_it(way: Way) -> None:
    breaker = breaker_of(ManualClock(), failure_rate=0.5, minimum_calls=4)
    call = way(breaker)
    assert run(call, "+++--") == "+++--"
    assert breaker.state is State.CLOSED  # 2 of 5
    assert run(call, "-+") == "-x"  # 3 of 6 is enough
    assert breaker.state is State.OPEN


@every_way
def test_CB1_no_rate_is_looked_at_before_the_minimum_of_calls(way: Way) -> None:
    breaker = breaker_of(ManualClock(), minimum_calls=10)
    assert run(way(breaker), "-" * 11) == "-" * 10 + "x"


@every_way
@pytest.mark.parametrize("window", [{"window": 10}, {"last_calls": 100}])
def test_CB1_a_success_opens_when_it_makes_the_calls_reach_the_minimum(way: Way, window: dict[str, Any]) -> None:
    breaker = breaker_of(ManualClock(), failure_rate=0.3, minimum_calls=4, **window)
    assert run(way(breaker), "--++" + "+") == "--++" + "x"
    assert breaker.state is State.OPEN


@QUICK_WAYS
def test_CB1_a_success_opens_when_a_second_of_successes_leaves_the_window(way: Way) -> None:
    clock = ManualClock()
    breaker = breaker_of(clock, failure_rate=0.5, minimum_calls=3, window=2)
    call = way(breaker)
    run(call, "+++++")
    clock.advance(1)
    run(call, "---")
    assert breaker.state is State.CLOSED  # 3 of 8
    clock.advance(1)
    run(call, "+")
    assert breaker.state is State.OPEN  # 3 of 4: the five successes are older than two buckets


@QUICK_WAYS
def test_CB1_failures_older_than_the_window_are_forgotten(way: Way) -> None:
    clock = ManualClock()
    breaker = breaker_of(clock, minimum_calls=2, window=10, failure_rate=1.0)
    call = way(breaker)
    run(call, "-")
    clock.advance(10)
    run(call, "-")
    assert breaker.state is State.CLOSED
    assert breaker.snapshot().calls == 1
    clock.advance(9)
    assert breaker.snapshot().calls == 1  # the tenth second
    run(call, "+")
    clock.advance(10)
    assert breaker.snapshot().calls == 0  # although nothing was recorded since


@QUICK_WAYS
def test_CB1_the_count_window_holds_the_last_calls_and_no_more(way: Way) -> None:
    breaker = breaker_of(ManualClock(), failure_rate=0.5, minimum_calls=2, last_calls=4)
    call = way(breaker)
    run(call, "++++" + "-" + "+++")
    assert (breaker.snapshot().calls, breaker.snapshot().failures) == (4, 1)
    run(call, "+")
    assert breaker.snapshot().failures == 0
    run(call, "--")
    assert breaker.state is State.OPEN


@every_way
def test_CB1_failures_in_a_row_open_and_a_success_starts_anew(way: Way) -> None:
    seen: list[Transition] = []
    breaker = breaker_of(ManualClock(), seen, consecutive=3)
    call = way(breaker)
    assert run(call, "--+--") == "--+--"
    assert run(call, "-+") == "-x"
    assert [event.cause for event in seen] == [Cause.CONSECUTIVE]


@QUICK_WAYS
@pytest.mark.parametrize("window", [{"window": 10}, {"last_calls": 100}])
def test_CB2_slow_calls_open_by_their_own_rate_failed_or_not(way: Way, window: dict[str, Any]) -> None:
    clock, seen = ManualClock(), list[Transition]()
    breaker = breaker_of(clock, seen, slow_rate=0.5, slow_after=0.25, minimum_calls=4, **window)
    call = way(breaker)

    def slow() -> str:
        clock.advance(0.25)  # reached is slow
        return "late"

    def slow_and_bad() -> str:
        clock.advance(0.25)
        raise Down

    def nearly() -> str:
        clock.advance(0.125)
        return "in time"

    assert call(nearly) == "in time"
    assert call(nearly) == "in time"
    assert call(slow) == "late"
    with pytest.raises(Down):
        call(slow_and_bad)
    assert [event.cause for event in seen] == [Cause.SLOW_RATE]
    assert (seen[0].calls, seen[0].failures, seen[0].slow) == (4, 1, 2)


def test_CB2_slow_calls_are_not_looked_at_without_a_rate() -> None:
    clock = ManualClock()
    breaker = breaker_of(clock, minimum_calls=1)
    by_function(breaker)(lambda: clock.advance(3600))
    assert breaker.snapshot().slow == 0
    assert breaker.state is State.CLOSED


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"failure_rate": 0}, "failure_rate must be above 0"),
    ({"failure_rate": 1.5}, "failure_rate must be above 0"),
    ({"failure_rate": True}, "failure_rate must be above 0"),
    ({"minimum_calls": 0}, "minimum_calls must be a whole number of at least 1"),
    ({"probes": 0}, "probes must be a whole number of at least 1"),
    ({"probes": 1.5}, "probes must be a whole number of at least 1"),
    ({"window": 0}, "window must be above 0 s"),
    ({"window": 1.5}, "window must be 1 to 600 whole seconds"),
    ({"window": 601}, "window must be 1 to 600 whole seconds"),
    ({"last_calls": 5, "minimum_calls": 6}, "last_calls=5 never holds minimum_calls=6 calls"),
    ({"last_calls": 10_001}, "last_calls must be at most 10000"),
    ({"consecutive": 0}, "consecutive must be a whole number of at least 1"),
    ({"consecutive": 3, "last_calls": 20}, "exclude each other"),
    ({"consecutive": 3, "slow_rate": 0.5, "slow_after": 1}, "slow_rate needs a window"),
    ({"slow_rate": 0.5}, "slow_rate and slow_after go together"),
    ({"slow_after": 1}, "slow_rate and slow_after go together"),
    ({"slow_rate": 0.5, "slow_after": 0}, "slow_after must be above 0 s"),
    ({"open_for": 0}, "open_for must be above 0 s"),
    ({"open_for": float("nan")}, "open_for must be seconds"),
    ({"open_for": []}, "open_for needs at least one wait"),
    ({"open_for": [1, -1]}, "each wait of open_for must be above 0 s"),
    ({"open_for": "30"}, "open_for must be seconds"),
    ({"open_for": lambda opening: -opening}, r"open_for\(1\) must be above 0 s"),
    ({"open_for": 400}, "open_for=400 exceeds open_at_most=300 s"),
    ({"open_growth": 0.5}, "open_growth must be a number from 1 to 100"),
    ({"open_jitter": -1}, "open_jitter must be a number from 0 to 100"),
    ({"probe_lease": 0}, "probe_lease must be above 0 s"),
    ({"retry_after": 1}, "retry_after must be True or False"),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_a_wrong_setting_is_refused_at_once_with_its_cure(options: dict[str, Any], text: str) -> None:
    with pytest.raises(Misuse, match=text):
        BreakerSettings(**options)
    with pytest.raises(Misuse, match=text):
        BreakerSettings.of(options)


def test_settings_come_from_true_a_mapping_or_settings() -> None:
    assert BreakerSettings.of(True) == BreakerSettings()
    assert BreakerSettings.of({"failure_rate": 0.2, "window": timedelta(minutes=1)}).span == 60
    given = BreakerSettings(consecutive=5)
    assert BreakerSettings.of(given) is given


@pytest.mark.parametrize("value", [False, None, 5, "yes", [1]])
def test_anything_else_for_settings_is_refused(value: object) -> None:
    with pytest.raises(Misuse, match="breaker must be True, a mapping of settings or BreakerSettings"):
        BreakerSettings.of(value)


def test_an_unknown_setting_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(Misuse, match="breaker has no setting 'fail_max'; known: consecutive, failure_rate"):
        BreakerSettings.of({"fail_max": 5})
    with pytest.raises(Misuse, match="breaker has no setting 'waits'"):
        BreakerSettings.of({"waits": (1.0,)})


def test_a_breaker_needs_a_name_and_settings_in_one_way_only() -> None:
    nameless: Any = CircuitBreaker
    with pytest.raises(Misuse, match="needs the dependency's name first"):
        nameless("")
    with pytest.raises(Misuse, match="needs the dependency's name first"):
        nameless(lambda: None)
    with pytest.raises(Misuse, match="give settings= or consecutive, not both"):
        CircuitBreaker("payments", settings=BreakerSettings(), consecutive=3)


def test_reconfiguring_keeps_what_the_window_holds() -> None:
    clock = ManualClock()
    breaker = breaker_of(clock, minimum_calls=10, window=10)
    call = by_function(breaker)
    run(call, "++---")
    breaker.reconfigure(BreakerSettings(minimum_calls=6, window=10, open_jitter=0))
    assert breaker.state is State.CLOSED
    run(call, "+")  # the sixth call: 3 of 6, by the new settings
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("old", [{"last_calls": 20}, {"last_calls": 5, "minimum_calls": 5}])
def test_reconfiguring_keeps_the_last_calls(old: dict[str, Any]) -> None:
    breaker = breaker_of(ManualClock(), **old, failure_rate=1.0)
    call = by_function(breaker)
    run(call, "++--")
    breaker.reconfigure(BreakerSettings(last_calls=3, minimum_calls=3, failure_rate=1.0))
    assert (breaker.snapshot().calls, breaker.snapshot().failures) == (3, 2)
    run(call, "-")
    assert breaker.state is State.OPEN


def test_reconfiguring_to_another_kind_of_window_keeps_the_state() -> None:
    breaker = breaker_of(ManualClock(), consecutive=5)
    call = by_function(breaker)
    run(call, "--")
    breaker.reconfigure(BreakerSettings(minimum_calls=2))
    assert (breaker.state, breaker.snapshot().calls) == (State.CLOSED, 0)
    breaker.reconfigure(BreakerSettings(consecutive=3))
    run(call, "---")
    assert breaker.state is State.OPEN
    before = breaker.snapshot().retry_after
    breaker.reconfigure(BreakerSettings(open_for=1))
    assert (breaker.state, breaker.snapshot().retry_after) == (State.OPEN, before)


def test_reconfiguring_below_the_probes_that_are_done_decides() -> None:
    clock = ManualClock()
    breaker = breaker_of(clock, consecutive=1, probes=5, open_for=1)
    call = by_function(breaker)
    run(call, "-")
    clock.advance(1)
    run(call, "++")
    assert breaker.state is State.HALF_OPEN
    breaker.reconfigure(BreakerSettings(consecutive=1, probes=2))
    assert breaker.state is State.CLOSED


def test_reconfigure_takes_settings_only() -> None:
    breaker: Any = breaker_of(ManualClock())
    with pytest.raises(Misuse, match="reconfigure takes BreakerSettings"):
        breaker.reconfigure({"consecutive": 3})


def test_a_call_that_raises_or_returns_is_passed_on_as_it_is() -> None:
    call = by_function(breaker_of(ManualClock()))
    assert call(good) == "well"
    with pytest.raises(Down, match="down"):
        call(bad)
