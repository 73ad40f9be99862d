"""A breaker between threads: nothing is lost, nobody waits (CB-6, CB-8)."""

from __future__ import annotations

import dis
import inspect
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from backstay.resilience.circuit_breaker import (
    CircuitBreaker,
    CircuitOpen,
    State,
    Transition,
    guard,
    guard_async,
    windows,
)
from backstay.resilience.circuit_breaker.states import TABLE
from backstay.testing import measured
from backstay.testing.bytecode import code_of, racy_updates
from unit.resilience.breaker_ways import Down

WINDOWS: list[dict[str, Any]] = [
    {"consecutive": 4},
    {"minimum_calls": 5, "window": 1},
    {"minimum_calls": 5, "last_calls": 20},
    {"minimum_calls": 5, "slow_rate": 0.9, "slow_after": 10},
]


@pytest.fixture
def hasty() -> Iterator[None]:
    """Change threads a thousand times as often as usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", "backstay.resilience")  # thousands of transitions


def crowd(count: int, work: Callable[[int], None]) -> None:
    faults: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


@pytest.mark.parametrize("window", WINDOWS)
def test_CB6_CB7_eight_threads_lose_no_result_and_every_transition_is_in_the_table(
    hasty: None, window: dict[str, Any]
) -> None:
    seen: list[Transition] = []
    name = f"threads-{len(window)}-{next(iter(window))}"
    breaker = CircuitBreaker(name, failure_rate=0.3, open_for=1e-4, probes=2, listeners=[seen.append], **window)
    told = {"ok": [0] * 8, "bad": [0] * 8, "refused": [0] * 8}

    @breaker
    def work(fails: bool) -> None:
        if fails:
            raise Down

    def caller(number: int) -> None:
        chance = random.Random(number)
        for turn in range(1500):
            try:
                work(chance.random() < (0.9 if turn // 50 % 2 else 0.02))
                told["ok"][number] += 1
            except Down:
                told["bad"][number] += 1
            except CircuitOpen:
                told["refused"][number] += 1

    with measured() as counts:
        crowd(8, caller)

    def counted(result: str) -> float:
        return counts.count("circuit_breaker.calls", policy_name=name, result=result)

    assert counted("success") + counted("slow_success") == sum(told["ok"])
    assert counted("failure") + counted("slow_failure") == sum(told["bad"])
    assert counted("not_permitted") == sum(told["refused"])
    assert sum(map(sum, told.values())) == 8 * 1500
    assert len(seen) > 5
    state = State.CLOSED
    for number, event in enumerate(seen, 1):
        assert (event.number, event.before) == (number, state)
        assert TABLE[event.before][event.cause] is event.after
        state = event.after
    assert counts.count("circuit_breaker.transitions", policy_name=name) == len(seen)


@pytest.mark.parametrize("window", WINDOWS)
def test_CB1_quick_successes_of_eight_threads_are_all_in_the_window(hasty: None, window: dict[str, Any]) -> None:
    breaker = CircuitBreaker("threads-window", **{**window, "window": 600, "minimum_calls": 20})

    @breaker
    def work() -> None: ...

    def caller(number: int) -> None:
        for _ in range(5000):
            work()

    crowd(8, caller)
    if "consecutive" not in window:
        assert breaker.snapshot().calls == (20 if "last_calls" in window else 8 * 5000)


def test_CB8_eight_threads_of_a_tenth_of_a_second_take_less_than_two() -> None:
    breaker = CircuitBreaker("threads-parallel", consecutive=5)
    together = threading.Barrier(8)

    @breaker
    def work() -> None:
        together.wait(10)  # all eight are inside at once, or none gets out
        threading.Event().wait(0.1)

    began = time.monotonic()
    crowd(8, lambda number: work())
    assert time.monotonic() - began < 0.2


def test_reconfiguring_beside_calls_loses_nothing(hasty: None) -> None:
    breaker = CircuitBreaker("threads-settings", minimum_calls=5)
    from backstay.resilience.circuit_breaker import BreakerSettings

    kinds = [BreakerSettings(**options) for options in WINDOWS]

    @breaker
    def work() -> None: ...

    def caller(number: int) -> None:
        for turn in range(2000):
            if number == 0:
                breaker.reconfigure(kinds[turn % len(kinds)])
            work()

    with measured() as counts:
        crowd(4, caller)
    assert counts.count("circuit_breaker.calls", policy_name="threads-settings", result="success") == 8000
    assert breaker.state is State.CLOSED


def test_no_quick_line_is_preempted_between_its_load_and_its_store() -> None:
    for module in (guard, guard_async, windows):
        code = compile(inspect.getsource(module), module.__name__, "exec")
        for attribute in ("n", "ok", "bad", "slow"):
            assert racy_updates(code, attribute) == []


@pytest.mark.parametrize("module", [guard, guard_async])
def test_CB8_the_way_of_a_success_enters_no_lock(module: ModuleType) -> None:
    code = compile(inspect.getsource(module), module.__name__, "exec")
    wrappers = [part for part in code_of(code) if part.co_name == "guarded"]
    assert len(wrappers) == 7
    for wrapper in wrappers:
        assert not [step for step in dis.get_instructions(wrapper) if step.opname.startswith("BEFORE_WITH")]


def test_both_colours_of_the_wrappers_are_one_text() -> None:
    def lines(module: ModuleType) -> list[str]:
        text = inspect.getsource(module).partition("__all__")[2]
        for there, here in (("guard_async", "guard"), ("AsyncCall", "Call"), ("async def", "def"), ("await ", "")):
            text = text.replace(there, here)
        return text.replace("the coroutine function `call`", "`call`").splitlines()

    assert lines(guard) == lines(guard_async)
