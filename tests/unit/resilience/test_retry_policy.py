"""What is tried again and what never is, in both colours (RT-1, RT-3, AS-3)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity
import tenacity.asyncio

from backstay.errors import BreakerOpen, BulkheadFull, Misuse, OutcomeUnknown, RateLimited, Unavailable
from backstay.resilience.retry import ResultRefused, Retry, RetrySettings, attempt_number, retry_after_of
from backstay.resilience.timeout import CallTimedOut, DeadlineExceeded, deadline
from backstay.testing import ManualClock, measured

TENANT = contextvars.ContextVar("tenant", default="nobody")


class Bench:
    """Retries of one colour on a clock that waits move."""

    def __init__(self, colour: str) -> None:
        self.colour = colour
        self.clock = ManualClock()
        self.waits: list[float] = []
        self.attempts = 0

    def retry(self, **options: Any) -> Retry:
        async def sleep_async(seconds: float) -> None:
            await asyncio.sleep(0)
            self.sleep(seconds)

        return Retry("orders", clock=self.clock, sleep=self.sleep, sleep_async=sleep_async, **options)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    def function(self, *outcomes: Any) -> Callable[..., Any]:
        """Return what ends in each of `outcomes` in turn, the last one for ever."""

        def plain() -> Any:
            outcome = outcomes[min(self.attempts, len(outcomes) - 1)]
            self.attempts += 1
            if callable(outcome):
                outcome = outcome()
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        async def asynchronous() -> Any:
            await asyncio.sleep(0)
            return plain()

        return plain if self.colour == "def" else asynchronous

    def run(self, function: Callable[..., Any]) -> Any:
        result = function()
        return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.fixture(params=["def", "async def"])
def bench(request: pytest.FixtureRequest) -> Bench:
    assert isinstance(request.param, str)
    return Bench(request.param)


def test_RT1_what_fails_is_tried_again(bench: Bench) -> None:
    assert bench.run(bench.retry()(bench.function(ValueError(), OSError(), "good"))) == "good"
    assert bench.attempts == 3
    first, second = bench.waits
    assert 0 <= first <= 0.1
    assert 0 <= second <= 0.2


def test_RT3_the_last_error_itself_is_raised_with_a_note(bench: Bench) -> None:
    with pytest.raises(OSError, match="third") as last:
        bench.run(bench.retry(attempts=3)(bench.function(ValueError(), KeyError(), OSError("third"))))
    assert last.value.__notes__ == ["backstay: 'orders' was given up after 3 attempts (max_attempts)"]
    assert last.value.__context__ is None


def test_RT3_an_error_object_that_is_raised_again_and_again_gathers_no_notes(bench: Bench) -> None:
    error = OSError("the same")
    for _ in range(5):
        with pytest.raises(OSError, match="the same"):
            bench.run(bench.retry(attempts=2, budget=None)(bench.function(error)))
    assert len(error.__notes__) == 1


NEVER = [
    Misuse("wrong"),
    OutcomeUnknown("sent"),
    CallTimedOut("late"),
    BreakerOpen("open"),
    DeadlineExceeded("over"),
    ExceptionGroup("two", [ValueError(), OutcomeUnknown("sent")]),
]


@pytest.mark.parametrize("error", NEVER, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("predicate", [None, tenacity.retry_always, tenacity.retry_if_exception_type(Exception)])
def test_RT1_what_must_not_be_repeated_is_not(bench: Bench, error: Exception, predicate: Any) -> None:
    with pytest.raises(type(error)):
        bench.run(bench.retry(retry=predicate)(bench.function(error)))
    assert (bench.attempts, bench.waits) == (1, [])


def test_RT1_an_idempotent_call_may_be_repeated_though_its_outcome_is_unknown(bench: Bench) -> None:
    assert bench.run(bench.retry(idempotent=True)(bench.function(CallTimedOut("late"), "good"))) == "good"
    assert bench.run(bench.retry(open_breaker=True)(bench.function("", "", BreakerOpen("there"), "good"))) == "good"


@pytest.mark.parametrize("error", [Unavailable("down"), BulkheadFull("full"), RateLimited("slow"), TimeoutError()])
def test_RT1_what_was_not_done_is_repeated(bench: Bench, error: Exception) -> None:
    assert bench.run(bench.retry()(bench.function(error, "good"))) == "good"


def test_RT1_only_the_errors_of_on_are_repeated(bench: Bench) -> None:
    with pytest.raises(KeyError) as last:
        bench.run(bench.retry(on=(ConnectionError,))(bench.function(ConnectionResetError(), KeyError("k"), "good")))
    assert bench.attempts == 2
    assert last.value.__notes__ == ["backstay: 'orders' was given up after 2 attempts (not_retryable)"]


@pytest.mark.parametrize("stop", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("earlier", [0, 1])
def test_AS3_cancellation_and_exit_are_never_repeated(bench: Bench, stop: type[BaseException], earlier: int) -> None:
    retry = bench.retry(retry=tenacity.retry_always) if earlier else bench.retry()
    with measured() as counts, pytest.raises(stop):
        outcomes = [ValueError()] * earlier + [stop(), "good"]
        result = retry(bench.function(*outcomes))()
        if inspect.iscoroutine(result):
            while True:  # by hand: a runner has its own ways with exits
                result.send(None)
    assert bench.attempts == earlier + 1
    assert counts.count("retry.attempts", result="canceled") == earlier + 1


def test_AS3_a_cancelled_wait_ends_the_call_at_once() -> None:
    started = 0

    async def main() -> None:
        @Retry("orders", attempts=5, first_wait=1000, longest_wait=1000, wait=lambda state: 1000)
        async def call() -> None:
            nonlocal started
            started += 1
            raise ValueError

        task = asyncio.create_task(call())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert started == 1


def test_RT1_retry_after_is_obeyed_with_the_jitter_on_top(bench: Bench) -> None:
    retry = bench.retry(first_wait=0.5)
    assert bench.run(retry(bench.function(RateLimited("slow", retry_after=7.0), "good"))) == "good"
    assert 7.0 <= bench.waits[0] <= 7.5


def test_RT1_retry_after_that_is_too_long_ends_the_call(bench: Bench) -> None:
    with pytest.raises(RateLimited) as last:
        bench.run(bench.retry(longest_retry_after=60)(bench.function(RateLimited("slow", retry_after=61.0))))
    assert (bench.attempts, bench.waits) == (1, [])
    assert last.value.__notes__ == ["backstay: 'orders' was given up after 1 attempt (deadline)"]
    bench.attempts = 0
    heedless = bench.retry(obey_retry_after=False)
    assert bench.run(heedless(bench.function(RateLimited("slow", retry_after=61.0), "good"))) == "good"
    assert bench.waits[0] <= 0.1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SimpleNamespace(retry_after=3), 3.0),
        (SimpleNamespace(retry_after=timedelta(seconds=2)), 2.0),
        (SimpleNamespace(retry_after=-1), 0.0),
        (SimpleNamespace(retry_after=None), None),
        (SimpleNamespace(retry_after="soon"), None),
        (SimpleNamespace(retry_after=float("nan")), None),
        (SimpleNamespace(retry_after=True), None),
        (SimpleNamespace(response=SimpleNamespace(headers={"Retry-After": " 120 "})), 120.0),
        (SimpleNamespace(response=SimpleNamespace(headers={"Retry-After": "-5"})), None),
        (SimpleNamespace(response=SimpleNamespace(headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})), None),
        (
            SimpleNamespace(
                response=SimpleNamespace(
                    headers={
                        "Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT",
                        "Date": "Wed, 21 Oct 2015 07:27:30 GMT",
                    }
                )
            ),
            30.0,
        ),
        (SimpleNamespace(response=SimpleNamespace(headers={"Retry-After": "soon", "Date": "today"})), None),
        (SimpleNamespace(response=None), None),
        (SimpleNamespace(response=SimpleNamespace(headers=None)), None),
    ],
)
def test_RT1_retry_after_is_read_from_errors_and_responses(error: Any, expected: float | None) -> None:
    assert retry_after_of(error) == expected


def test_RT1_a_deadline_bounds_attempts_and_waits(bench: Bench) -> None:
    def slow() -> Exception:
        bench.clock.advance(1.0)
        return OSError("slow")

    with pytest.raises(OSError, match="slow") as last:
        bench.run(bench.retry(attempts=50, deadline=5.0, wait=lambda state: 0.5)(bench.function(slow)))
    assert bench.attempts == 4  # begun at 0, 1.5, 3 and 4.5 s; a fifth would begin after the end
    assert bench.waits == [0.5] * 3
    assert last.value.__notes__ == ["backstay: 'orders' was given up after 4 attempts (deadline)"]


def test_RT1_a_wait_that_outlasts_the_deadline_outside_is_not_begun(bench: Bench) -> None:
    with deadline(3.0, clock=bench.clock), pytest.raises(OSError, match="down"):
        bench.run(bench.retry(attempts=9, wait=lambda state: 2.0)(bench.function(OSError("down"))))
    assert (bench.attempts, bench.waits) == (2, [2.0])


def test_RT3_the_attempt_can_be_read_and_is_forgotten_afterwards(bench: Bench) -> None:
    seen: list[int] = []
    fails = bench.function(lambda: seen.append(attempt_number()) or OSError("down"))
    with pytest.raises(OSError, match="down"):
        bench.run(bench.retry(attempts=3)(fails))
    assert seen == [1, 2, 3]
    assert attempt_number() == 1


def test_RT3_each_reason_is_counted_and_the_sum_is_all_attempts(bench: Bench) -> None:
    runs: list[tuple[dict[str, Any], tuple[Any, ...], str, bool, int]] = [
        ({}, ("good",), "returned", False, 1),
        ({}, (OSError(), "good"), "returned", True, 2),
        ({"on": (KeyError,)}, (OSError(),), "not_retryable", False, 1),
        ({"attempts": 4}, (OSError(),), "max_attempts", True, 4),
        ({"attempts": 1}, (OSError(),), "max_attempts", False, 1),
        ({"attempts": 9, "deadline": 3.0, "wait": lambda state: 2.0}, (OSError(),), "deadline", True, 2),
        ({"attempts": 9, "budget_reserve": 2, "budget": 0.1}, (OSError(),), "budget", True, 3),
    ]
    for options, outcomes, reason, retried, attempts in runs:
        bench.attempts = 0
        with measured() as counts:
            try:
                bench.run(bench.retry(**options)(bench.function(*outcomes)))
            except OSError:
                assert reason != "returned"
        assert counts.count("retry.attempts", resource="orders", policy_type="retry") == attempts == bench.attempts
        assert counts.count("retry.attempts", result=reason, retried=retried) == attempts, options


def test_RT1_results_may_be_repeated_too(bench: Bench) -> None:
    until_three = {"retry": tenacity.retry_if_result(lambda result: result < 3), "wait": tenacity.wait_none()}
    assert bench.run(bench.retry(**until_three)(bench.function(1, 2, 3))) == 3
    with pytest.raises(ResultRefused) as refused:
        bench.run(bench.retry(attempts=2, **until_three)(bench.function(1)))
    assert refused.value.result == 1
    assert bench.run(bench.retry(attempts=2, retry_error_callback=lambda state: state.outcome.result(), **until_three)(
        bench.function(1)
    )) == 1  # fmt: skip


def test_RT1_hooks_of_tenacity_come_in_its_order(bench: Bench) -> None:
    told: list[tuple[str, int, float]] = []

    def hook(name: str) -> Callable[[Any], Any]:
        def hooked(state: Any) -> Any:
            told.append((name, state.attempt_number, state.upcoming_sleep))
            return {"wait": 1.5, "stop": state.attempt_number == 2, "retry": True}.get(name)

        return hooked

    names = ("before", "retry", "after", "wait", "stop", "before_sleep", "retry_error_callback")
    assert bench.run(bench.retry(**{name: hook(name) for name in names})(bench.function(OSError()))) is None
    assert [(name, attempt) for name, attempt, _ in told] == [
        ("before", 1), ("retry", 1), ("after", 1), ("wait", 1), ("stop", 1), ("before_sleep", 1),
        ("before", 2), ("retry", 2), ("after", 2), ("wait", 2), ("stop", 2), ("retry_error_callback", 2),
    ]  # fmt: skip
    assert told[4] == ("stop", 1, 1.5)


def test_RT1_tenacity_s_log_hooks_work(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logger = logging.getLogger("orders")
    hooks = {
        "before": tenacity.before_log(logger, logging.WARNING),
        "after": tenacity.after_log(logger, logging.WARNING),
        "before_sleep": tenacity.before_sleep_log(logger, logging.WARNING),
    }
    assert (
        bench.run(bench.retry(wait=tenacity.wait_fixed(2), **hooks)(bench.function(OSError("down"), "good"))) == "good"
    )
    assert [record.message.split()[0] for record in caplog.records] == ["Starting", "Finished", "Retrying", "Starting"]
    assert "in 2 seconds as it raised OSError: down" in caplog.records[2].message


def test_RT1_try_again_asks_for_another_attempt_and_gives_its_cause(bench: Bench) -> None:
    def again() -> Any:
        try:
            raise LookupError("why")
        except LookupError:
            raise tenacity.TryAgain from None

    with pytest.raises(LookupError, match="why"):
        bench.run(bench.retry(attempts=2, on=(KeyError,))(bench.function(again)))
    assert bench.attempts == 2


def test_BH3_attempts_run_in_the_caller_s_context(bench: Bench) -> None:
    seen: list[str] = []
    fails = bench.function(lambda: seen.append(TENANT.get()) or OSError("down"))
    token = TENANT.set("acme")
    try:
        with pytest.raises(OSError, match="down"):
            bench.run(bench.retry(attempts=3)(fails))
    finally:
        TENANT.reset(token)
    assert seen == ["acme"] * 3


def test_async_predicates_are_awaited() -> None:
    bench = Bench("async def")

    async def wanted(error: BaseException) -> bool:
        await asyncio.sleep(0)
        return isinstance(error, OSError)

    predicate = tenacity.asyncio.retry_if_exception(wanted)
    with pytest.raises(KeyError):
        bench.run(bench.retry(attempts=5, retry=predicate)(bench.function(OSError(), KeyError("k"), "good")))
    assert bench.attempts == 2


@pytest.mark.parametrize("hook", ["before", "after", "before_sleep", "wait", "stop", "retry"])
def test_AS2_async_hooks_are_refused_above_a_plain_function(hook: str) -> None:
    async def hooked(state: Any) -> float:
        return 0.0

    retry = Retry("orders", **{hook: hooked})  # type: ignore[arg-type]
    with pytest.raises(Misuse, match=rf"{hook}= is async def, but .*plain\(\) is not"):
        retry(Bench("def").function("good"))
    plain = Retry("orders")
    plain(Bench("def").function("good"))
    with pytest.raises(Misuse, match="async def"):
        plain.reconfigure(RetrySettings(**{hook: hooked}))  # type: ignore[arg-type]


def test_AS2_async_members_of_a_predicate_are_found() -> None:
    async def wanted(error: BaseException) -> bool:
        return True

    mixed = tenacity.retry_if_exception_type(OSError) | tenacity.asyncio.retry_if_exception(wanted)
    with pytest.raises(Misuse, match="retry= is async def"):
        Retry("orders", retry=mixed)(Bench("def").function("good"))


def test_AS2_generators_are_refused() -> None:
    def items() -> Iterator[int]:
        yield 1

    with pytest.raises(Misuse, match="generator function"):
        Retry("orders")(items)


def test_reconfigured_attempts_count_for_calls_that_begin_later(bench: Bench) -> None:
    retry = bench.retry(attempts=2)
    call = retry(bench.function(OSError("down")))
    with pytest.raises(OSError, match="down"):
        bench.run(call)
    retry.reconfigure(RetrySettings.of({"attempts": 4}))
    with pytest.raises(OSError, match="down"):
        bench.run(call)
    assert bench.attempts == 2 + 4
    assert retry.settings.attempts == 4


def test_a_call_that_failed_leaves_no_cycle_behind() -> None:
    bench = Bench("def")

    class Failure(Exception):
        pass

    @bench.retry(attempts=2)
    def call() -> None:
        raise Failure

    left: list[weakref.ref[Failure]] = []
    gc.collect()
    gc.disable()
    try:
        try:
            call()
        except Failure as error:
            left.append(weakref.ref(error))
        assert [reference() for reference in left] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"attempts": 2.5},
        {"attempts": True},
        {"first_wait": -1},
        {"first_wait": 5, "longest_wait": 1},
        {"deadline": 0},
        {"deadline": float("inf")},
        {"budget": 0},
        {"budget": 1.5},
        {"budget_reserve": 0},
        {"budget_floor": -1},
        {"on": ()},
        {"on": "OSError"},
        {"on": (asyncio.CancelledError,)},
        {"on": (KeyboardInterrupt,)},
        {"stop": 3},
        {"stop": tenacity.stop_after_attempt},
        {"idempotent": "yes"},
        {"on": (OSError,), "retry": tenacity.retry_always},
        {"attempt": 3},
    ],
    ids=" ".join,
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        RetrySettings.of(settings)


@pytest.mark.parametrize("value", ["3", True, 2.0, None, [3]])
def test_a_short_form_is_a_whole_number(value: Any) -> None:
    with pytest.raises(Misuse, match="a number of attempts"):
        RetrySettings.of(value)


def test_the_forms_of_settings_agree() -> None:
    assert RetrySettings.of(5) == RetrySettings.of({"attempts": 5}) == RetrySettings(attempts=5)
    assert RetrySettings.of(RetrySettings(attempts=5)).attempts == 5
    assert RetrySettings(on=OSError).on == (OSError,)  # type: ignore[arg-type]
    with pytest.raises(Misuse, match="not both"):
        Retry("orders", settings=RetrySettings(), attempts=3)
