"""Which ends of a call say what (CB-3, AS-3), over every way to a breaker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backstay.errors import BulkheadFull, Misuse, OutcomeUnknown, RateLimited, Rejected, Unavailable
from backstay.resilience.circuit_breaker import CircuitBreaker, State
from backstay.resilience.circuit_breaker.outcomes import Outcome, judge_of
from backstay.testing import ManualClock
from unit.resilience.breaker_ways import Down, Way, by_coroutine, by_function, every_way, run

NEUTRAL = [KeyboardInterrupt, SystemExit, asyncio.CancelledError]


class Timeout(Down):
    pass


class NotFound(Exception):
    pass


class Coded(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@pytest.mark.parametrize(
    ("failure", "ignored", "error", "expected"),
    [
        (Exception, (), Down(), Outcome.FAILURE),
        (Exception, (), TimeoutError(), Outcome.FAILURE),
        (Exception, (), Unavailable(), Outcome.FAILURE),
        (Exception, (), OutcomeUnknown(), Outcome.FAILURE),
        (Down, (), Timeout(), Outcome.FAILURE),
        (Down, (), NotFound(), Outcome.SUCCESS),
        ((Down, OSError), (), ConnectionError(), Outcome.FAILURE),
        (Exception, NotFound, NotFound(), Outcome.IGNORED),
        (Down, (Timeout,), Timeout(), Outcome.IGNORED),
        (lambda error: getattr(error, "code", 0) >= 500, (), Coded(503), Outcome.FAILURE),
        (lambda error: getattr(error, "code", 0) >= 500, (), Coded(404), Outcome.SUCCESS),
        (Exception, lambda error: isinstance(error, Coded) and error.code < 500, Coded(404), Outcome.IGNORED),
        (Exception, (), BulkheadFull(), Outcome.NEUTRAL),
        (Exception, (), RateLimited(), Outcome.NEUTRAL),
        ((Exception, BulkheadFull), (), BulkheadFull(), Outcome.FAILURE),
        ((Exception, BulkheadFull), (), RateLimited(), Outcome.NEUTRAL),
        (Rejected, (), RateLimited(), Outcome.FAILURE),
        (lambda error: True, (), RateLimited(), Outcome.NEUTRAL),
        (Exception, RateLimited, RateLimited(), Outcome.IGNORED),
        (Exception, (), Misuse(), Outcome.IGNORED),
        (Exception, (), KeyboardInterrupt(), Outcome.NEUTRAL),
        (Exception, (), SystemExit(), Outcome.NEUTRAL),
        (Exception, (), GeneratorExit(), Outcome.NEUTRAL),
        (lambda error: True, lambda error: True, asyncio.CancelledError(), Outcome.NEUTRAL),
    ],
)
def test_CB3_an_exception_is_a_failure_a_success_ignored_or_neutral(
    failure: Any, ignored: Any, error: BaseException, expected: Outcome
) -> None:
    assert judge_of(failure, ignored)(error) is expected


def test_a_predicate_that_raises_hides_nothing() -> None:
    def broken(error: Exception) -> bool:
        raise LookupError("predicate")

    assert judge_of(broken, ())(Down()) is Outcome.FAILURE
    assert judge_of(Exception, broken)(Down()) is Outcome.FAILURE


async def _later(error: Exception) -> bool:
    return True


@pytest.mark.parametrize("wrong", [None, "Down", 5, (Down, "NotFound"), int, _later, (int,)])
def test_what_is_neither_classes_nor_a_function_is_refused_at_construction(wrong: Any) -> None:
    with pytest.raises(Misuse, match="failure must be exception classes or a"):
        CircuitBreaker("payments", failure=wrong)
    with pytest.raises(Misuse, match="ignored must be exception classes or a"):
        CircuitBreaker("payments", ignored=wrong)


@every_way
@pytest.mark.parametrize("kind", NEUTRAL)
@pytest.mark.parametrize("window", [{"consecutive": 1}, {"minimum_calls": 1}, {"minimum_calls": 1, "last_calls": 5}])
def test_CB3_AS3_cancelled_and_interrupted_calls_enter_no_window(way: Way, kind: Any, window: dict[str, Any]) -> None:
    breaker = CircuitBreaker("payments", clock=ManualClock(), **window)
    call = way(breaker)

    def leave() -> None:
        raise kind

    for _ in range(3):
        with pytest.raises(kind):
            call(leave)
    assert (breaker.state, breaker.snapshot().calls) == (State.CLOSED, 0)


@every_way
def test_CB3_ignored_calls_enter_no_window_and_other_errors_are_successes(way: Way) -> None:
    breaker = CircuitBreaker("payments", failure=Down, ignored=NotFound, consecutive=2, clock=ManualClock())
    call = way(breaker)

    def missing() -> None:
        raise NotFound

    def wrong() -> None:
        raise KeyError

    run(call, "-")
    with pytest.raises(NotFound):
        call(missing)
    assert breaker.snapshot().failures == 1  # ignored: the row goes on
    with pytest.raises(KeyError):
        call(wrong)
    assert breaker.snapshot().failures == 0  # a success: the dependency answered
    assert run(call, "--") == "--"
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("way", [by_function, by_coroutine])
def test_CB3_a_result_can_be_a_failure(way: Way) -> None:
    breaker = CircuitBreaker(
        "payments", failure_result=lambda status: status >= 500, consecutive=2, open_for=1, clock=ManualClock()
    )
    call = way(breaker)
    assert [call(lambda: 200), call(lambda: 503), call(lambda: 404), call(lambda: 500)] == [200, 503, 404, 500]
    assert breaker.state is State.CLOSED
    assert call(lambda: 502) == 502
    assert breaker.state is State.OPEN
    breaker.half_open()
    assert call(lambda: 503) == 503
    assert breaker.state is State.OPEN
    breaker.close()
    assert run(call, "--+") == "--x"  # exceptions count beside results


@pytest.mark.parametrize("way", [by_function, by_coroutine])
def test_a_predicate_of_results_that_raises_leaves_the_result_to_the_caller(way: Way) -> None:
    def broken(result: object) -> bool:
        raise LookupError("predicate")

    breaker = CircuitBreaker("payments", failure_result=broken, consecutive=1, clock=ManualClock())
    assert way(breaker)(lambda: "well") == "well"
    assert breaker.state is State.CLOSED


def test_a_predicate_of_results_must_be_a_plain_function() -> None:
    async def later(result: object) -> bool:
        return True

    for wrong in (later, 503, "5xx"):
        given: Any = wrong
        with pytest.raises(Misuse, match="failure_result must be a plain function"):
            CircuitBreaker("payments", failure_result=given)
