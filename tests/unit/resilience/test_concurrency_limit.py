"""Adaptive concurrency: the rules of AD-1, a server whose capacity halves, and the policy round calls."""

from __future__ import annotations

import asyncio
import heapq
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import BulkheadFull, Misuse, Unavailable
from backstay.resilience.bulkhead import ThreadPool
from backstay.resilience.concurrency_limit import ConcurrencyLimit, ConcurrencySettings, Priority, prioritised
from backstay.resilience.concurrency_limit.algorithms import aimd, gradient2, vegas
from backstay.resilience.concurrency_limit.baseline import PROBE_AFTER, Baseline
from backstay.resilience.concurrency_limit.governor import Governor
from backstay.resilience.concurrency_limit.window import Samples, Window
from backstay.resilience.timeout import CallTimedOut
from backstay.testing import ManualClock, measured

BASE = 0.1
BY_LATENCY: dict[str, Callable[[float, Window], float]] = {
    "vegas": lambda limit, window: vegas(limit, window, BASE),
    "gradient2": lambda limit, window: gradient2(limit, window, BASE),
}
ALL: dict[str, Callable[[float, Window], float]] = {
    **BY_LATENCY,
    "aimd": lambda limit, window: aimd(limit, window, 2 * BASE),
}
every = pytest.mark.parametrize("name", sorted(ALL))


def seen(rtt: float | None, in_flight: int, dropped: bool = False) -> Window:
    return Window(rtt=rtt, in_flight=in_flight, dropped=dropped)


@every
@given(limit=st.floats(1, 1000), rtt=st.floats(0, 1e6), in_flight=st.integers(0, 1000), dropped=st.booleans())
def test_AD1_no_window_moves_the_limit_by_more_than_one_step(
    name: str, limit: float, rtt: float, in_flight: int, dropped: bool
) -> None:
    after = ALL[name](limit, seen(rtt, in_flight, dropped))
    assert abs(after - limit) <= max(1.0, limit / 10) + 1e-9


@every
@given(limit=st.floats(4, 1000), rtt=st.floats(0, 10 * BASE), share=st.floats(0, 0.4))
def test_AD1_the_limit_rises_only_if_half_of_it_was_in_use(name: str, limit: float, rtt: float, share: float) -> None:
    assert ALL[name](limit, seen(rtt, int(limit * share))) <= limit


@every
def test_AD1_idle_neither_raises_nor_lowers_the_limit(name: str) -> None:
    for rtt in (None, BASE / 2, BASE, 1.5 * BASE):
        assert ALL[name](50.0, seen(rtt, 3)) == 50.0


@every
def test_it_rises_without_a_queue_and_falls_with_one(name: str) -> None:
    assert ALL[name](20.0, seen(BASE, 20)) > 20.0
    assert ALL[name](20.0, seen(3 * BASE, 20)) < 20.0


@every
def test_AD1_one_outlier_among_the_samples_of_a_window_changes_next_to_nothing(name: str) -> None:
    with_outlier, without = Samples(0.0), Samples(0.0)
    for samples in (with_outlier, without):
        for _ in range(10):
            samples.add(BASE, 20)
    with_outlier.add(1000 * BASE, 20)
    assert ALL[name](20.0, with_outlier.window()) == ALL[name](20.0, without.window())


def test_a_window_keeps_a_bounded_number_of_latencies() -> None:
    samples = Samples(0.0)
    for _ in range(1500):
        samples.add(1.0, 2)
    for _ in range(600):
        samples.add(3.0, 1)
    assert len(samples._rtts) == 1000
    assert samples.window() == Window(rtt=3.0, in_flight=2, dropped=False)


def test_AD1_the_baseline_rises_only_by_what_was_seen_in_calm() -> None:
    baseline = Baseline()
    baseline.observe(seen(BASE, 20), calm=False)
    for _ in range(1000):
        baseline.observe(seen(5 * BASE, 20), calm=False)
    assert baseline.value == BASE
    assert baseline.stale
    for _ in range(20):
        baseline.observe(seen(2 * BASE, 2), calm=True)
    assert baseline.value == pytest.approx(2 * BASE, rel=0.01)
    assert not baseline.stale


def test_AD1_one_lucky_window_does_not_collapse_the_baseline() -> None:
    baseline = Baseline()
    baseline.observe(seen(BASE, 20), calm=False)
    baseline.observe(seen(BASE / 1000, 20), calm=False)
    assert baseline.value is not None
    assert baseline.value >= 0.7 * BASE


@pytest.mark.parametrize(
    "error", [ValueError(), BulkheadFull(), asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()]
)
def test_AD1_what_says_nothing_about_the_server_is_no_sample(error: BaseException) -> None:
    governor = Governor(ConcurrencySettings(min_samples=1), 0.0)
    for turn in range(100):
        count = governor.enter(0)
        governor.leave(float(turn), turn + 0.001, count, error)
    assert governor.baseline is None
    assert (governor.limit, governor.in_flight) == (20.0, 0)


@pytest.mark.parametrize("error", [TimeoutError(), CallTimedOut("late"), Unavailable("down")])
def test_AD1_a_timeout_gives_no_latency_and_lowers_aimd_once_a_window(error: BaseException) -> None:
    governor = Governor(ConcurrencySettings(algorithm="aimd"), 0.0)
    for turn in range(100):
        governor.leave(0.0, 0.5 + turn / 1000, governor.enter(0), error)
    assert governor.limit == 20.0
    governor.leave(0.0, 1.0, governor.enter(0), error)
    assert governor.limit == 18.0
    assert governor.baseline is None


# -- a server with so many workers, and more work than they can do


class Server:
    """A queue before `capacity` workers, in virtual time."""

    def __init__(self, governor: Governor, capacity: int, service: float, seed: int) -> None:
        self.governor, self.capacity, self.service = governor, capacity, service
        self.random = random.Random(seed)
        self.now = 0.0
        self.busy = 0
        self.waiting: deque[tuple[float, int]] = deque()
        self.ends: list[tuple[float, float, int]] = []
        self.took: list[float] = []
        self.refused = 0

    def run(self, until: float, rate: float) -> None:
        while self.now < until:
            arrival = self.now + self.random.expovariate(rate)
            while self.ends and self.ends[0][0] <= arrival:
                self.end(*heapq.heappop(self.ends))
            self.now = arrival
            count = self.governor.enter(0)
            if count:
                self.waiting.append((arrival, count))
                self.begin()
            else:
                self.refused += 1

    def begin(self) -> None:
        while self.waiting and self.busy < self.capacity:
            began, count = self.waiting.popleft()
            self.busy += 1
            heapq.heappush(self.ends, (self.now + self.service * self.random.uniform(0.8, 1.2), began, count))

    def end(self, now: float, began: float, count: int) -> None:
        self.now = now
        self.busy -= 1
        self.took.append(now - began)
        self.governor.leave(began, now, count, None)
        self.begin()


def p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


@pytest.mark.parametrize("capacity", [40, 60])
@pytest.mark.parametrize("seed", [1, 2])
@every
def test_AD1_capacity_halves_and_the_limit_follows_within_thirty_windows(name: str, capacity: int, seed: int) -> None:
    settings = ConcurrencySettings(algorithm=name, target=1.1 * BASE if name == "aimd" else None)  # type: ignore[arg-type]
    governor = Governor(settings, 0.0)
    server = Server(governor, capacity, BASE, seed)
    rate = 1.5 * capacity / BASE
    server.run(50.0, rate)
    assert abs(int(governor.limit) - capacity) <= 0.2 * capacity
    server.capacity //= 2
    server.run(80.0, rate)
    assert abs(int(governor.limit) - capacity / 2) <= 0.2 * capacity / 2
    server.took.clear()
    server.run(95.0, rate)
    assert p99(server.took) <= 2 * BASE
    assert server.refused > 0


@pytest.mark.parametrize("name", sorted(BY_LATENCY))
def test_AD1_an_overloaded_server_does_not_teach_that_queues_are_normal(name: str) -> None:
    governor = Governor(ConcurrencySettings(algorithm=name), 0.0)  # type: ignore[arg-type]
    server = Server(governor, 20, BASE, seed=3)
    server.run(6.0 * PROBE_AFTER, 300.0)
    assert 16 <= (governor._kept or governor.limit) <= 25
    assert governor.baseline == pytest.approx(BASE, rel=0.1)


@pytest.mark.parametrize("name", sorted(BY_LATENCY))
def test_AD1_a_server_that_became_slower_for_good_becomes_the_new_baseline(name: str) -> None:
    governor = Governor(ConcurrencySettings(algorithm=name), 0.0)  # type: ignore[arg-type]
    server = Server(governor, 20, BASE, seed=4)
    server.run(40.0, 300.0)
    server.service = 3 * BASE
    server.run(40.0 + 3 * PROBE_AFTER, 300.0)
    assert governor.baseline == pytest.approx(3 * BASE, rel=0.15)
    assert (governor._kept or governor.limit) >= 15


# -- the policy


class Colour:
    """Calls a function behind the limit as `def` or as `async def`, as if both were blocking."""

    def __init__(self, name: str) -> None:
        self.name = name

    def guard(self, limit: ConcurrencyLimit, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.name == "sync":

            @limit
            def guarded(*args: Any) -> Any:
                return function(*args)

            return guarded

        @limit
        async def guarded_async(*args: Any) -> Any:
            return function(*args)

        def run(*args: Any) -> Any:
            coroutine: Any = guarded_async(*args)
            try:
                coroutine.send(None)
            except StopIteration as stop:
                return stop.value
            raise AssertionError("nothing here waits")

        return run


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


def test_AD1_calls_up_to_the_limit_run_and_the_next_is_refused(colour: Colour) -> None:
    limit = ConcurrencyLimit("exact", initial=3, default_share=1)
    depth: list[int] = []

    def nest() -> None:
        depth.append(limit.in_flight)
        call()

    call = colour.guard(limit, nest)
    with measured() as counts, pytest.raises(BulkheadFull, match="'exact': 3 calls in flight, 3 allowed for default"):
        call()
    assert depth == [1, 2, 3]
    assert limit.in_flight == 0
    assert counts.count("concurrency_limit.requests", result="acquired", resource="exact") == 3
    assert counts.count("concurrency_limit.requests", result="limited", resource="exact") == 1
    assert counts.value("concurrency_limit.limit", resource="exact", algorithm="gradient2") == 3


def test_low_priorities_are_refused_first(colour: Colour) -> None:
    limit = ConcurrencyLimit("shares", initial=10, default_share=0.9, sheddable_share=0.5)
    call = colour.guard(limit, lambda: limit.in_flight)

    def served(priority: str) -> bool:
        with prioritised(priority):
            try:
                call()
            except BulkheadFull:
                return False
            return True

    blocks = [limit.admission() for _ in range(10)]
    answers: list[tuple[bool, ...]] = []
    with prioritised(Priority.CRITICAL):
        for block in blocks:
            answers.append((served("sheddable"), served("default"), served("critical")))
            block.__enter__()
    answers.append((served("sheddable"), served("default"), served("critical")))
    assert answers == [(n < 5, n < 9, n < 10) for n in range(11)]
    for block in blocks:
        block.__exit__(None, None, None)
    assert limit.in_flight == 0


def test_a_priority_reaches_pooled_calls_and_tasks() -> None:
    limit = ConcurrencyLimit("carried", initial=2, default_share=1, sheddable_share=0.5)
    pool = ThreadPool("carried", core=1, max=1, queue=0)
    call = limit(lambda: 1)
    with limit.admission():
        assert pool.call(call) == 1
        with prioritised("sheddable"):
            with pytest.raises(BulkheadFull):
                pool.call(call)

            async def main() -> int:
                return await asyncio.create_task(asyncio.to_thread(call))

            with pytest.raises(BulkheadFull):
                asyncio.run(main())
    assert pool.close(10)


def test_AD1_latency_moves_the_limit(colour: Colour) -> None:
    clock = ManualClock()
    limit = ConcurrencyLimit("moves", initial=4, min_samples=1, clock=clock)
    call = colour.guard(limit, clock.advance)

    def window(seconds: float) -> None:
        with prioritised("critical"), limit.admission(), limit.admission():
            call(seconds)

    window(1.0)
    before = limit.limit
    for _ in range(20):
        window(1.0)
    grown = limit.limit
    assert grown > before
    assert limit.baseline == pytest.approx(1.0)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError, SystemExit])
def test_AS3_a_call_is_taken_off_however_it_ends(colour: Colour, error: type[BaseException]) -> None:
    limit = ConcurrencyLimit("ends", initial=1)

    def fail() -> None:
        raise error

    for _ in range(3):
        with pytest.raises(error):
            colour.guard(limit, fail)()
    assert limit.in_flight == 0


def test_CB10_streams_and_blocks_count_to_their_end() -> None:
    limit = ConcurrencyLimit("stream", initial=5)

    @limit
    def produce() -> Any:
        yield limit.in_flight

    @limit
    async def produce_async() -> Any:
        yield limit.in_flight

    async def collect() -> list[int]:
        async with limit.admission():
            return [each async for each in produce_async()]

    assert list(produce()) == [1]
    assert asyncio.run(collect()) == [2]
    assert limit.in_flight == 0


def test_eight_threads_never_exceed_the_limit() -> None:
    limit = ConcurrencyLimit("threads", initial=3, most=3, default_share=1)
    seen_most, refused, lock, running = [0], [0], threading.Lock(), [0]

    @limit
    def work() -> None:
        with lock:
            running[0] += 1
            seen_most[0] = max(seen_most[0], running[0])
        with lock:
            running[0] -= 1

    def loop() -> None:
        for _ in range(2000):
            try:
                work()
            except BulkheadFull:
                with lock:
                    refused[0] += 1

    with measured() as counts:
        threads = [threading.Thread(target=loop) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen_most[0] <= 3
    assert limit.in_flight == 0
    assert counts.count("concurrency_limit.requests", result="limited", resource="threads") == refused[0]
    assert counts.count("concurrency_limit.requests", resource="threads") == 16_000


def test_settings_change_and_what_was_learnt_is_kept() -> None:
    limit = ConcurrencyLimit("live", initial=50)
    limit.reconfigure(ConcurrencySettings(algorithm="vegas", most=100))
    assert limit.limit == 50
    limit.reconfigure(ConcurrencySettings(algorithm="vegas", initial=5, most=10))
    assert limit.limit == 10
    with measured() as counts:
        assert counts.value("concurrency_limit.limit", resource="live", algorithm="vegas") == 10
    assert repr(limit) == "ConcurrencyLimit('live', 0 of 10.0 in flight)"


def test_IN2_a_forked_child_keeps_the_limit_and_has_nothing_in_flight() -> None:
    limit = ConcurrencyLimit("forked", initial=7)
    with limit.admission():
        limit.renew()  # what the hook calls in a child
        assert (limit.in_flight, limit.limit) == (0, 7)
    assert limit.in_flight == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, ConcurrencySettings()),
        ("vegas", ConcurrencySettings(algorithm="vegas")),
        ({"algorithm": "aimd", "target": 0.2}, ConcurrencySettings(algorithm="aimd", target=0.2)),
        (ConcurrencySettings(), ConcurrencySettings()),
    ],
)
def test_settings_are_read_from_what_a_user_writes(value: Any, expected: ConcurrencySettings) -> None:
    assert ConcurrencySettings.of(value) == expected


@pytest.mark.parametrize(
    "value",
    [8, False, None, "reno", {"least": 0}, {"initial": 300}, {"initial": 2, "least": 3}, {"window": 0}, {"target": -1},
     {"default_share": 0.5, "sheddable_share": 0.6}, {"sheddable_share": 0}, {"min_samples": 0}, {"limit": 1}],
)  # fmt: skip
def test_wrong_settings_are_refused_at_once(value: Any) -> None:
    with pytest.raises(Misuse):
        ConcurrencySettings.of(value)


def test_an_unknown_priority_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Misuse, match="critical, default, sheddable"), prioritised("urgent"):
        pass
