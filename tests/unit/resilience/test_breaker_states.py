"""What a breaker does in each state, how it gets from one to another, and what is told of it (CB-7, CB-8)."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import re
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backstay.errors import BreakerOpen, Misuse
from backstay.resilience.circuit_breaker import Cause, CircuitBreaker, CircuitOpen, State, Transition
from backstay.resilience.circuit_breaker.retry_after import retry_after_of
from backstay.resilience.circuit_breaker.states import MANUAL, TABLE, diagram
from backstay.testing import ManualClock
from unit.resilience.breaker_ways import Down, Way, by_coroutine, by_function, every_way, good, run

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "policies" / "circuit-breaker.md"

TO = {
    State.CLOSED: CircuitBreaker.close,
    State.OPEN: CircuitBreaker.open,
    State.HALF_OPEN: CircuitBreaker.half_open,
    State.FORCED_OPEN: CircuitBreaker.force_open,
    State.DISABLED: CircuitBreaker.disable,
    State.METRICS_ONLY: CircuitBreaker.metrics_only,
}


def test_CB7_the_diagram_of_the_page_is_drawn_from_the_table() -> None:
    drawn = re.search(r"```mermaid\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert drawn is not None
    assert drawn[1] == diagram()


def test_CB7_every_way_of_the_table_is_in_the_diagram() -> None:
    lines = diagram().splitlines()
    for before, ways in TABLE.items():
        for cause, after in ways.items():
            start = "any" if cause in MANUAL else before.value
            assert [
                line for line in lines if line.startswith(f"    {start} --> {after.value}: ") and cause.value in line
            ]


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_CB7_one_event_a_transition_and_none_on_staying(before: State, after: State) -> None:
    seen: list[Transition] = []
    breaker = CircuitBreaker("payments", clock=ManualClock())
    TO[before](breaker)
    breaker.listen(seen.append)
    TO[after](breaker)
    assert breaker.state is after
    assert [(event.before, event.after) for event in seen] == ([] if before is after else [(before, after)])


@every_way
def test_CB7_a_whole_round_of_states_and_its_events(way: Way) -> None:
    clock, seen = ManualClock(), list[Transition]()
    breaker = CircuitBreaker(
        "payments", consecutive=2, open_for=5, open_jitter=0, probes=2, clock=clock, listeners=[seen.append]
    )
    call = way(breaker)
    assert run(call, "--++") == "--xx"
    clock.advance(4.75)
    assert run(call, "+") == "x"
    clock.advance(0.25)
    assert run(call, "-+") == "-x"
    clock.advance(5)
    assert run(call, "+++") == "+++"
    assert [(event.number, event.before, event.after, event.cause) for event in seen] == [
        (1, State.CLOSED, State.OPEN, Cause.CONSECUTIVE),
        (2, State.OPEN, State.HALF_OPEN, Cause.WAIT_OVER),
        (3, State.HALF_OPEN, State.OPEN, Cause.PROBES_FAILED),
        (4, State.OPEN, State.HALF_OPEN, Cause.WAIT_OVER),
        (5, State.HALF_OPEN, State.CLOSED, Cause.PROBES_PASSED),
    ]
    assert (seen[0].calls, seen[0].failures) == (2, 2)
    assert (seen[2].calls, seen[2].failures) == (1, 1)


@every_way
def test_CB7_forced_open_refuses_until_it_is_closed(way: Way) -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("payments", clock=clock)
    call = way(breaker)
    breaker.force_open()
    clock.advance(1e9)
    with pytest.raises(
        CircuitOpen, match="circuit breaker 'payments' is forced open until somebody closes it"
    ) as refusal:
        call(good)
    assert refusal.value.retry_after is None
    breaker.close()
    assert call(good) == "well"


@every_way
def test_CB7_disabled_lets_all_through_and_records_nothing(way: Way) -> None:
    breaker = CircuitBreaker("payments", consecutive=1, clock=ManualClock())
    breaker.disable()
    assert run(way(breaker), "-----") == "-----"
    assert breaker.state is State.DISABLED
    assert breaker.snapshot().calls == 0


@every_way
@pytest.mark.parametrize("window", [{"consecutive": 1}, {"last_calls": 10, "minimum_calls": 1}, {"minimum_calls": 1}])
def test_CB7_metrics_only_records_and_never_opens(way: Way, window: dict[str, Any]) -> None:
    breaker = CircuitBreaker("payments", clock=ManualClock(), **window)
    breaker.metrics_only()
    assert run(way(breaker), "-----") == "-----"
    assert breaker.state is State.METRICS_ONLY
    assert breaker.snapshot().failures >= 1


def openings(clock: ManualClock, breaker: CircuitBreaker, times: int) -> list[float]:
    """Fail at each probe, and return how long the breaker stays open each time."""
    call, waits = by_function(breaker), list[float]()
    for _ in range(times):
        assert run(call, "-") == "-"
        wait = breaker.snapshot().retry_after
        assert wait is not None
        waits.append(wait)
        clock.advance(wait)
    return waits


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"open_for": 2}, [2, 2, 2, 2]),
        ({"open_for": timedelta(seconds=2), "open_growth": 2, "open_at_most": 10}, [2, 4, 8, 10, 10]),
        ({"open_for": [1, 5, 60]}, [1, 5, 60, 60]),
        ({"open_for": lambda opening: opening * 10.0, "open_at_most": 25}, [10, 20, 25, 25]),
    ],
)
def test_CB7_the_wait_is_constant_growing_listed_or_a_function(options: dict[str, Any], expected: list[float]) -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("payments", consecutive=1, open_jitter=0, clock=clock, **options)
    assert openings(clock, breaker, len(expected)) == expected
    run(by_function(breaker), "+++")  # closed: the next opening is a first one
    assert openings(clock, breaker, 1) == expected[:1]


def test_CB7_jitter_makes_the_wait_longer_by_at_most_its_share() -> None:
    clock = ManualClock()
    drawn: list[tuple[float, float]] = []

    def highest(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    breaker = CircuitBreaker("payments", consecutive=1, open_for=8, open_jitter=0.25, clock=clock, uniform=highest)
    assert openings(clock, breaker, 1) == [10]
    assert drawn == [(0.0, 0.25)]


class Overloaded(Exception):
    def __init__(self, retry_after: object) -> None:
        super().__init__()
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("asked", "options", "expected"),
    [
        (60, {}, 60),
        (1, {}, 30),
        (10_000, {}, 300),
        (10_000, {"open_at_most": 900}, 900),
        (60, {"retry_after": False}, 30),
        ("soon", {}, 30),
        (float("nan"), {}, 30),
        (-5, {}, 30),
    ],
)
def test_CB7_a_retry_after_of_the_failure_that_opened_is_honoured(asked: object, options: Any, expected: float) -> None:
    breaker = CircuitBreaker("payments", consecutive=1, open_jitter=0, clock=ManualClock(), **options)

    def overloaded() -> None:
        raise Overloaded(asked)

    with pytest.raises(Overloaded):
        by_function(breaker)(overloaded)
    assert breaker.snapshot().retry_after == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2015 07:27:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0),
        ({"Retry-After": "tomorrow", "Date": "today"}, 0),
        ({"Retry-After": "-1"}, 0),
        ({}, 0),
    ],
)
def test_CB7_the_header_of_a_response_is_read(headers: dict[str, str], expected: float) -> None:
    error: Any = Down()
    error.response = SimpleNamespace(headers=headers)
    assert retry_after_of(error) == expected


@pytest.mark.parametrize("way", [by_function, by_coroutine])
def test_an_open_breaker_refuses_without_its_lock(way: Way) -> None:
    breaker = CircuitBreaker("payments", consecutive=1, clock=ManualClock())
    call = way(breaker)
    run(call, "-")
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with breaker.circuit._lock:
            taken.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(10)
    try:
        assert run(call, "+++") == "xxx"
    finally:
        done.set()
        holder.join()


def test_a_refusal_says_what_and_how_long_and_survives_a_copy() -> None:
    refusal = CircuitOpen("payments", "open", 1.25)
    assert isinstance(refusal, BreakerOpen)
    assert str(refusal) == "circuit breaker 'payments' is open; retry in 1.2 s"
    assert "probes are under way" in str(CircuitOpen("payments", "half_open"))
    for again in (pickle.loads(pickle.dumps(refusal)), copy.copy(refusal)):
        assert (str(again), again.retry_after, again.http_status) == (str(refusal), 1.25, 503)


def test_CB8_a_raising_listener_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Transition] = []

    def raising(event: Transition) -> None:
        raise LookupError("listener")

    breaker = CircuitBreaker("payments", consecutive=1, listeners=[raising, seen.append], clock=ManualClock())
    with caplog.at_level(logging.ERROR):
        assert run(by_function(breaker), "-+") == "-x"
    assert len(seen) == 1
    assert "listener" in caplog.text


@every_way
def test_CB8_no_lock_is_held_while_a_listener_or_the_call_runs(way: Way) -> None:
    free: list[bool] = []
    breaker = CircuitBreaker("payments", consecutive=1, open_for=1, clock=ManualClock())

    def look(event: object = None) -> str:
        def take() -> None:
            taken = breaker.circuit._lock.acquire(blocking=False)
            free.append(taken)
            if taken:
                breaker.circuit._lock.release()

        other = threading.Thread(target=take)
        other.start()
        other.join()
        return "looked"

    breaker.listen(look)
    call = way(breaker)
    call(look)
    run(call, "-")
    breaker.half_open()
    call(look)
    assert len(free) == 4
    assert all(free)


def test_CB8_a_listener_may_use_the_breaker_and_events_stay_in_order() -> None:
    seen: list[int] = []
    breaker = CircuitBreaker("payments", consecutive=1, clock=ManualClock())

    def close_at_once(event: Transition) -> None:
        seen.append(event.number)
        if event.after is State.OPEN:
            breaker.close()

    breaker.listen(close_at_once)
    breaker.listen(lambda event: seen.append(-event.number))
    assert run(by_function(breaker), "-+") == "-+"
    assert seen == [1, -1, 2, -2]


def test_a_listener_can_leave_and_must_be_a_plain_function() -> None:
    seen: list[Transition] = []
    breaker: Any = CircuitBreaker("payments", clock=ManualClock())

    async def late(event: Transition) -> None: ...

    class Late:
        async def __call__(self, event: Transition) -> None: ...

    leave = breaker.listen(seen.append)
    breaker.force_open()
    leave()
    leave()
    breaker.close()
    assert len(seen) == 1
    for wrong in (late, Late(), None, "listener"):
        with pytest.raises(Misuse, match="a listener of breaker 'payments' must be a plain function"):
            breaker.listen(wrong)


def test_listeners_hear_in_the_context_of_the_call() -> None:
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")
    heard: list[str] = []
    breaker = CircuitBreaker(
        "payments", consecutive=1, clock=ManualClock(), listeners=[lambda e: heard.append(who.get())]
    )

    @breaker
    async def fail() -> None:
        raise Down

    async def main() -> None:
        who.set("caller")
        with pytest.raises(Down):
            await fail()

    asyncio.run(main())
    assert heard == ["caller"]


def test_a_snapshot_tells_the_state_and_the_numbers_behind_it() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("payments", minimum_calls=4, open_for=8, open_jitter=0, probes=2, clock=clock)
    call = by_function(breaker)
    assert breaker.snapshot().failure_rate == breaker.snapshot().slow_rate == 0
    run(call, "++-")
    now = breaker.snapshot()
    assert (now.state, now.calls, now.failures, now.failure_rate) == (State.CLOSED, 3, 1, 1 / 3)
    run(call, "-")
    assert (breaker.snapshot().state, breaker.snapshot().retry_after, breaker.snapshot().openings) == (State.OPEN, 8, 1)
    assert repr(breaker) == "CircuitBreaker('payments', open)"
    clock.advance(8)
    held: list[int] = []
    call(lambda: held.append(breaker.snapshot().probes_in_flight))
    assert held == [1]
    assert (breaker.snapshot().state, breaker.snapshot().calls) == (State.HALF_OPEN, 1)
