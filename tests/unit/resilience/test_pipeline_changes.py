"""One pipeline round many functions, changed while calls run, without losing state (CO-1, IN-3, AS-2)."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import pickle
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from backstay.errors import BulkheadFull, Misuse
from backstay.resilience.bulkhead import Bulkhead, BulkheadSettings
from backstay.resilience.circuit_breaker import CircuitBreaker, CircuitOpen, State
from backstay.resilience.fallback import Fallback
from backstay.resilience.pipeline import Pipeline, pipeline_of
from backstay.resilience.policy import Target
from backstay.testing import measured


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


async def add_async(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


def numbers(count: int) -> Any:
    yield from range(count)


async def numbers_async(count: int) -> Any:
    for number in range(count):
        yield number


class Picky:
    """Refuses functions whose name is in `not_round`, when it is put round them."""

    kind = "hedge"

    def __init__(self, *not_round: str) -> None:
        self.not_round = not_round

    def wrap(self, call: Callable[..., Any], target: Target) -> Callable[..., Any]:
        if target.label in self.not_round:
            raise Misuse(f"not round {target.label}()")
        return call

    def wrap_async(self, call: Callable[..., Awaitable[Any]], target: Target) -> Callable[..., Awaitable[Any]]:
        return self.wrap(call, target)


def test_all_functions_of_a_pipeline_share_its_state() -> None:
    pipeline = Pipeline("shared", CircuitBreaker("shared", consecutive=2))

    @pipeline
    def fails() -> None:
        raise ConnectionError

    for _ in range(2):
        with pytest.raises(ConnectionError):
            fails()
    with pytest.raises(CircuitOpen):
        pipeline(add)(1)
    with pytest.raises(CircuitOpen):
        asyncio.run(pipeline(add_async)(1))
    with pytest.raises(CircuitOpen):
        next(pipeline(numbers)(3))
    with pytest.raises(CircuitOpen):
        pipeline.call(add, 1)
    with pytest.raises(CircuitOpen), pipeline.admission():
        raise AssertionError("it is open")


def test_a_replaced_policy_is_gone_for_new_calls_and_stays_for_calls_that_run() -> None:
    old, new = Bulkhead("old", max_concurrent=1), Bulkhead("new", max_concurrent=1)
    pipeline = Pipeline("swapped", old)
    entered, leave = threading.Event(), threading.Event()

    @pipeline
    def wait() -> str:
        entered.set()
        leave.wait(10)
        return "ended in the old chain"

    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(wait()))
    thread.start()
    assert entered.wait(10)
    assert (old.in_use, new.in_use) == (1, 0)
    with pytest.raises(BulkheadFull):
        wait()
    pipeline.replace(new)
    assert pipeline(lambda: (old.in_use, new.in_use))() == (1, 1)
    leave.set()
    thread.join(10)
    assert ended == ["ended in the old chain"]
    assert (old.in_use, new.in_use) == (0, 0)
    assert wait() == "ended in the old chain"


@pytest.mark.parametrize("colour", ["call", "call_async", "generator", "block"])
def test_a_change_reaches_everything_that_was_protected_before(colour: str) -> None:
    shut = Bulkhead("shut", max_concurrent=1)
    pipeline = Pipeline("reached")
    plain, coroutine, stream, block = pipeline(add), pipeline(add_async), pipeline(numbers), pipeline.admission()

    def go() -> object:
        if colour == "call":
            return plain(1) + pipeline.call(add, 1)
        if colour == "call_async":
            return asyncio.run(coroutine(1)) + asyncio.run(pipeline.call_async(add_async, 1))
        if colour == "generator":
            return len(list(stream(4)))
        with block:
            return 4

    assert go() == 4
    pipeline.replace(shut)
    with shut.admission(), pytest.raises(BulkheadFull):
        go()
    assert go() == 4
    pipeline.replace()
    with shut.admission():
        assert go() == 4


def test_a_change_that_cannot_go_round_one_function_changes_nothing() -> None:
    kept = Bulkhead("kept", max_concurrent=3)
    pipeline = Pipeline("refused", kept)
    first, second = pipeline(add), pipeline(functools.partial(add, 1))
    stream = pipeline(numbers)
    with pytest.raises(Misuse, match=r"not round add\(\)|hedge.* cannot go round numbers"):
        pipeline.replace(Picky("add"))
    with pytest.raises(Misuse, match="fallback.* cannot go round numbers"):
        pipeline.replace(Fallback("refused", answer=0))
    assert pipeline.policies[1:] == (kept,)
    assert (first(1), second(), list(stream(2))) == (2, 2, [0, 1])


def test_settings_change_round_the_same_objects_and_go_back_when_a_document_leaves_them_out() -> None:
    breaker, bulkhead = CircuitBreaker("kept", consecutive=1), Bulkhead("kept", max_concurrent=2)
    pipeline = Pipeline("kept", breaker, bulkhead)

    @pipeline
    def fails() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fails()
    assert breaker.state is State.OPEN
    pipeline.reconfigure({"bulkhead": 5, "breaker": {"consecutive": 7}})
    assert pipeline.policies[1:] == (breaker, bulkhead)
    assert (breaker.state, breaker.settings.consecutive) == (State.OPEN, 7)
    assert bulkhead.settings == BulkheadSettings(max_concurrent=5)
    pipeline.reconfigure({"breaker": False})
    assert pipeline.policies[1:] == (bulkhead,)
    assert bulkhead.settings.max_concurrent == 2
    with pytest.raises(ConnectionError):  # without a breaker it is called
        fails()
    pipeline.reconfigure({})
    assert pipeline.policies[1:] == (breaker, bulkhead)
    assert (breaker.state, breaker.settings.consecutive) == (State.OPEN, 1)
    with pytest.raises(CircuitOpen):
        fails()


def test_replace_makes_what_code_gave_the_ground_again() -> None:
    bulkhead = Bulkhead("ground", max_concurrent=2)
    pipeline = Pipeline("ground", bulkhead)
    pipeline.reconfigure({"bulkhead": 5, "breaker": True})
    assert pipeline.order == ("operation", "circuit_breaker", "bulkhead")
    pipeline.replace(bulkhead)
    assert pipeline.order == ("operation", "bulkhead")
    assert bulkhead.settings.max_concurrent == 2


def test_calls_that_race_with_changes_see_one_whole_pipeline() -> None:
    """800 changes under 4 threads: each call holds a permit of exactly one of the two bulkheads."""
    first, second = Bulkhead("first", max_concurrent=100), Bulkhead("second", max_concurrent=100)
    pipeline = Pipeline("racing", first)
    done, wrong, calls = threading.Event(), list[tuple[int, int]](), [0] * 4

    @pipeline
    def inside() -> None:
        if not first.in_use + second.in_use:
            wrong.append((first.in_use, second.in_use))

    def work(number: int) -> None:
        while not done.is_set():
            inside()
            calls[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    with measured() as seen:
        for thread in threads:
            thread.start()
        for turn in range(800):
            pipeline.replace(second if turn % 2 else first)
        done.set()
        for thread in threads:
            thread.join(10)
    assert wrong == []
    assert first.in_use == second.in_use == 0
    assert seen.count("operation.duration", resource="racing", outcome="ok") == sum(calls)


def test_IN3_what_is_protected_keeps_its_face_and_knows_its_pipeline() -> None:
    assert add_protected.__name__ == "add"
    assert add_protected.__doc__ == "Add."
    assert inspect.signature(add_protected) == inspect.signature(add)
    assert pipeline_of(add_protected) is MODULE
    assert inspect.unwrap(add_protected) is add
    for function, check in (
        (add, inspect.isfunction),
        (add_async, inspect.iscoroutinefunction),
        (numbers, inspect.isgeneratorfunction),
        (numbers_async, inspect.isasyncgenfunction),
    ):
        assert check(MODULE(function))
        assert [each(MODULE(function)) for each in (inspect.iscoroutinefunction, inspect.isgeneratorfunction)] == [
            each(function) for each in (inspect.iscoroutinefunction, inspect.isgeneratorfunction)
        ]
    with pytest.raises(Misuse, match="not protected"):
        pipeline_of(add)


def test_IN3_a_protected_function_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(pickled)) is pickled


MODULE = Pipeline("module", Bulkhead("module"))
add_protected = MODULE(add)


@MODULE
def pickled() -> None:
    """Stand at module level."""


def test_call_prepares_a_function_once_and_keeps_few() -> None:
    pipeline = Pipeline("called", Bulkhead("called"))
    assert pipeline.call(add, 1, b=2) == 3
    assert asyncio.run(pipeline.call_async(add_async, 1, b=2)) == 3

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, a: int) -> int:
            return a

    assert pipeline.call(Unhashable(), 7) == 7
    watched: list[weakref.ref[Any]] = []

    def call(number: int) -> None:
        made: Callable[[], int] = functools.partial(add, number)
        watched.append(weakref.ref(made))
        assert pipeline.call(made) == number + 1

    for number in range(600):
        call(number)
    gc.collect()
    assert sum(each() is not None for each in watched) == 256


@pytest.mark.parametrize(
    ("function", "is_async", "told"),
    [
        (add_async, False, r"use call_async\(\)"),
        (add, True, r"use call\(\)"),
        (numbers, False, "decorate it"),
        (numbers_async, True, "decorate it"),
        (3, False, "needs a function"),
    ],
)
def test_AS2_call_refuses_a_function_of_another_colour(function: Any, is_async: bool, told: str) -> None:
    pipeline = Pipeline("colours")
    asyncio.run(pipeline.call_async(add_async, 1))  # what is prepared for one colour is not found for the other
    pipeline.call(add, 1)
    with pytest.raises(Misuse, match=told):
        if is_async:
            asyncio.run(pipeline.call_async(function, 1))
        else:
            pipeline.call(function, 1)


def test_functions_that_are_gone_are_not_kept_by_their_pipeline() -> None:
    pipeline = Pipeline("forgotten", Bulkhead("forgotten"))

    def make() -> weakref.ref[Any]:
        @pipeline
        def local() -> int:
            return 1

        assert local() == 1
        return weakref.ref(local)

    gone = make()
    gc.collect()
    assert gone() is None
    pipeline.replace()
