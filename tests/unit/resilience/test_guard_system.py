"""The system guard: what load means, what is refused first, and what is measured."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import Misuse, Rejected
from backstay.resilience.concurrency_limit import prioritised
from backstay.resilience.system_guard import GuardSettings, Overloaded, SystemGuard
from backstay.resilience.system_guard.load import Capacity, Load, pressure
from backstay.resilience.system_guard.sampler import Sampler, shared
from backstay.telemetry import background
from backstay.testing import ManualClock, measured


class Still(Sampler):
    """A sampler that says what the test wants: a fake, since a test cannot order a load of exactly 90 %."""

    def __init__(self, cpu: float = 0.0, lag: float = 0.0) -> None:
        super().__init__()
        self.load = Load(cpu=cpu, lag=lag)


class Colour:
    """Calls a function behind the guard as `def` or as `async def`, as if both were blocking."""

    def __init__(self, name: str) -> None:
        self.name = name

    def guard(self, guard: SystemGuard, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.name == "sync":

            @guard
            def guarded(*args: Any) -> Any:
                return function(*args)

            return guarded

        @guard
        async def guarded_async(*args: Any) -> Any:
            return function(*args)

        return lambda *args: asyncio.run(guarded_async(*args))


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


@pytest.mark.parametrize(
    ("load", "expected"),
    [(Load(), 0), (Load(cpu=0.4), 0.5), (Load(cpu=0.8), 1), (Load(lag=0.05), 0.5), (Load(cpu=0.4, lag=0.3), 3)],
)
def test_pressure_is_how_near_the_nearer_bound_is(load: Load, expected: float) -> None:
    assert pressure(load, GuardSettings(max_cpu=0.8, max_lag=0.1)) == pytest.approx(expected)


def test_without_load_nothing_is_refused(colour: Colour) -> None:
    guard = SystemGuard("calm", sampler=Still(cpu=0.84))
    blocks = [guard.admission() for _ in range(100)]
    for block in blocks:
        block.__enter__()
    assert colour.guard(guard, lambda: guard.in_flight)() == 101
    for block in blocks:
        block.__exit__(None, None, None)
    assert guard.in_flight == 0


@pytest.mark.parametrize("load", [Load(cpu=0.99), Load(lag=0.2)])
def test_under_load_as_many_go_on_as_the_process_bears(colour: Colour, load: Load) -> None:
    clock = ManualClock()
    guard = SystemGuard("loaded", sampler=Still(cpu=load.cpu, lag=load.lag), clock=clock)
    called: list[int] = []
    call = colour.guard(guard, lambda: called.append(1))
    with measured() as seen:
        call()
        with (
            guard.admission(),
            pytest.raises(Overloaded, match="'loaded': .* with 1 calls in flight and room for 1") as refusal,
        ):
            call()
        assert refusal.value.retry_after == 1.0
        assert called == [1]
        assert seen.count("system_guard.requests", result="limited", resource="loaded") == 1
        assert seen.count("system_guard.requests", result="acquired", resource="loaded") == 2
    assert guard.in_flight == 0


@pytest.mark.parametrize(
    ("cpu", "served"),
    [
        (0.5, {"sheddable", "default", "critical"}),
        (0.7, {"default", "critical"}),
        (0.85, {"critical"}),
        (0.95, set[str]()),
    ],
)
def test_low_priorities_are_refused_first(colour: Colour, cpu: float, served: set[str]) -> None:
    guard = SystemGuard("shares", max_cpu=0.8, sampler=Still(cpu=cpu))
    call = colour.guard(guard, lambda: None)
    answered: set[str] = set()
    guard._room.in_flight += 1  # as much as it bears
    for priority in ("sheddable", "default", "critical"):
        with prioritised(priority):
            try:
                call()
            except Overloaded:
                continue
            answered.add(priority)
    assert answered == served


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.001, 2)), max_size=80))
def test_capacity_is_the_most_calls_of_a_second_times_the_shortest(calls: list[tuple[float, float]]) -> None:
    capacity = Capacity(0.0)
    now = 0.0
    for pause, took in calls:
        now += pause
        capacity.ended(now, took)
        assert 1 <= capacity.value <= len(calls) * 2 + 1


def test_capacity_of_a_steady_stream() -> None:
    capacity = Capacity(0.0)
    for turn in range(1, 1001):
        capacity.ended(turn / 100, 0.2 if turn % 10 else 0.1)
    assert capacity.value == 10


def test_capacity_takes_the_best_of_each_second() -> None:
    capacity = Capacity(0.0)
    for turn in range(1, 101):
        capacity.ended(turn / 100, 0.1)
    for turn in range(1, 11):
        capacity.ended(1 + turn / 10, 0.5)
    capacity.ended(3.5, 0.5)
    assert capacity.value == 10


def test_capacity_forgets_what_is_ten_seconds_old() -> None:
    capacity = Capacity(0.0)
    for turn in range(1, 401):
        capacity.ended(turn / 100, 0.1)
    assert capacity.value == 10
    for turn in range(30):
        capacity.ended(5.0 + turn, 0.1)
    assert capacity.value == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
def test_AS3_a_call_is_counted_out_however_it_ends(colour: Colour, error: type[BaseException]) -> None:
    guard = SystemGuard("ends", sampler=Still())

    def fail() -> None:
        raise error

    with pytest.raises(error):
        colour.guard(guard, fail)()
    assert guard.in_flight == 0


def test_CB10_streams_and_blocks_count_to_their_end() -> None:
    guard = SystemGuard("stream", sampler=Still())

    @guard
    def produce() -> Any:
        yield guard.in_flight

    @guard
    async def produce_async() -> Any:
        yield guard.in_flight

    async def collect() -> list[int]:
        async with guard.admission():
            return [each async for each in produce_async()]

    assert list(produce()) == [1]
    assert asyncio.run(collect()) == [2]
    assert guard.in_flight == 0


def test_the_share_of_the_processors_is_measured_and_smoothed() -> None:
    clock, used = ManualClock(), [0.0]
    sampler = Sampler(clock=clock, processor=lambda: used[0], processors=lambda: 4)
    cpus: list[float] = []
    for _ in range(3):
        clock.advance(1)
        used[0] += 4.0
        sampler.sample()
        cpus.append(sampler.load.cpu)
    assert cpus == [0.5, 0.75, 0.875]
    sampler.sample()  # no time passed: nothing was measured
    assert sampler.load.cpu == 0.875


def test_a_loop_that_answers_late_is_seen_and_one_that_is_stuck_as_well() -> None:
    clock = ManualClock()
    sampler = Sampler(clock=clock)

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        sampler.watch(loop)
        lags: list[float] = []
        sampler.sample()  # asks
        clock.advance(0.3)
        sampler.sample()  # no answer yet
        lags.append(sampler.load.lag)
        await asyncio.sleep(0)  # answers, 0.3 s late
        sampler.sample()
        lags.append(sampler.load.lag)
        await asyncio.sleep(0)
        sampler.sample()
        lags.append(sampler.load.lag)
        return lags

    assert asyncio.run(main()) == pytest.approx([0.3, 0.3, 0.0])
    sampler.sample()
    clock.advance(5)
    sampler.sample()  # the loop has ended: it is late for nobody
    assert sampler.load.lag == 0.0


def test_a_guard_watches_the_loops_of_its_calls() -> None:
    sampler = Still()
    guard = SystemGuard("watches", sampler=sampler)

    @guard
    async def page() -> int:
        return len(sampler._loops)

    assert asyncio.run(page()) == 1


def test_the_real_sampler_runs_once_and_is_listed() -> None:
    before = threading.active_count()
    SystemGuard("first")
    SystemGuard("second")
    assert threading.active_count() <= before + 1
    entries = [entry for entry in background() if entry.name == "backstay-system-guard"]
    assert [entry.alive for entry in entries] == [True]
    shared.sample()
    assert 0 <= shared.load.cpu <= 1


def test_settings_change_while_it_runs(colour: Colour) -> None:
    guard = SystemGuard("live", sampler=Still(cpu=0.9))
    call = colour.guard(guard, lambda: 1)
    with guard.admission():
        with pytest.raises(Rejected):
            call()
        guard.reconfigure(GuardSettings(max_cpu=0.95))
        assert call() == 1
    assert repr(guard) == "SystemGuard('live', pressure 0.95, 0 in flight)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, GuardSettings()), (0.5, GuardSettings(max_cpu=0.5)), ({"max_lag": 1}, GuardSettings(max_lag=1.0))],
)
def test_settings_are_read_from_what_a_user_writes(value: Any, expected: GuardSettings) -> None:
    assert GuardSettings.of(value) == expected


@pytest.mark.parametrize(
    "value",
    [False, None, 85, 1.5, "high", {"max_cpu": 0}, {"max_lag": 0}, {"critical_share": 0.9}, {"sheddable_share": 2},
     {"cpu": 1}],
)  # fmt: skip
def test_wrong_settings_are_refused_at_once(value: Any) -> None:
    with pytest.raises(Misuse):
        GuardSettings.of(value)
