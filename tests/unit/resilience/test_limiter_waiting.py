"""Waiting, reservations and refunds (RL-10) on both faces, in memory and in the shipped scripts, in virtual time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime
from backstay.errors import Misuse, RateLimited, Unavailable
from backstay.resilience import AsyncRateLimiter, Rate, RateLimiter
from backstay.resilience.rate_limiting.backend import StoreFailed
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.runtime import Signal
from backstay.testing import ManualClock, measured
from unit.resilience.lua_redis import LuaRedis, async_lua_buckets, lua_buckets
from unit.resilience.virtual_loop import pause, run_virtually

TEN = "10/second"


class LoopTime(AsyncioRuntime):
    """asyncio, with the time of the running loop, which a test moves."""

    def now(self) -> float:  # type: ignore[override]  # a static method there
        return asyncio.get_running_loop().time()


class _Passing:
    """A signal of a world with one thread: whoever waits for it lets the time pass."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._up = False

    def set(self) -> None:
        self._up = True

    def clear(self) -> None:
        self._up = False

    def is_set(self) -> bool:
        return self._up

    async def wait(self, timeout: float | None = None) -> bool:
        if not self._up:
            assert timeout is not None, "nobody would ever wake this thread"
            self._clock.advance(timeout)
        return self._up


class Alone(BlockingRuntime):
    """Blocking code in virtual time."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock

    def now(self) -> float:  # type: ignore[override]  # a static method there
        return self.clock()

    def signal(self) -> Signal:  # type: ignore[override]  # a signal of this world
        return _Passing(self.clock)


def asynchronous(kept: str, rate: str) -> AsyncRateLimiter:
    """Return a limiter of the running virtual loop."""
    loop = asyncio.get_running_loop()
    if kept == "memory":
        buckets: Any = MemoryBuckets(Rate.of(rate), clock_ns=lambda: round(loop.time() * 1_000_000) * 1000)
    else:
        server = Following(loop)
        buckets = async_lua_buckets(server, Rate.of(rate))
    return AsyncRateLimiter(buckets, name=f"waiting-{kept}", runtime=LoopTime())


class Following(LuaRedis):
    """A server whose clock is the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        super().__init__()

    @property
    def now_us(self) -> int:
        return 1_800_000_000_000_000 + round(self._loop.time() * 1_000_000)

    @now_us.setter
    def now_us(self, value: int) -> None:
        """The loop moves it."""


def blocking(kept: str, rate: str, clock: ManualClock) -> RateLimiter:
    if kept == "memory":
        buckets: Any = MemoryBuckets(Rate.of(rate), clock_ns=clock.now_ns)
    else:
        server = LuaRedis()
        start = server.now_us
        buckets = lua_buckets(server, Rate.of(rate), our_us=lambda: clock.now_ns() // 1000)
        execute = server.execute

        def timed(command: bytes) -> Any:
            server.now_us = start + clock.now_ns() // 1000
            return execute(command)

        server.execute = timed  # type: ignore[method-assign]  # the server's clock is the test's
    return RateLimiter(buckets, name=f"waiting-{kept}", runtime=Alone(clock))


@pytest.fixture(params=["memory", "lua"])
def kept(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


async def timed(work: Awaitable[Any], served: list[tuple[str, float]], name: str) -> None:
    await work
    served.append((name, round(asyncio.get_running_loop().time() - 1000, 4)))


async def started(*tasks: asyncio.Task[Any]) -> None:
    """Let tasks reach their first wait."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert all(not task.done() for task in tasks)


def test_RL10_a_waiter_of_cost_10_is_served_before_a_later_cost_1(kept: str) -> None:
    async def main() -> list[tuple[str, float]]:
        limiter = asynchronous(kept, TEN)
        await limiter.acquire("k", 10)
        served: list[tuple[str, float]] = []
        large = asyncio.create_task(timed(limiter.acquire("k", 10, wait=5), served, "large"))
        await started(large)
        small = asyncio.create_task(timed(limiter.acquire("k", 1, wait=5), served, "small"))
        await started(small)
        await pause(0.5)
        with pytest.raises(RateLimited) as refusal:  # five tokens came in, and all of them are promised
            await limiter.acquire("k", 1)
        assert refusal.value.retry_after == pytest.approx(0.7, abs=1e-6)
        await asyncio.gather(large, small)
        return served

    assert run_virtually(main()) == [("large", 1.0), ("small", 1.1)]


def test_RL10_a_deadline_that_cannot_be_met_fails_at_once_and_takes_nothing(kept: str) -> None:
    async def main() -> None:
        limiter = asynchronous(kept, TEN)
        await limiter.acquire("k", 10)
        now = asyncio.get_running_loop().time()
        for _ in range(3):
            with pytest.raises(RateLimited) as refusal:
                await limiter.acquire("k", 5, wait=0.4)
            assert refusal.value.retry_after == pytest.approx(0.1, abs=1e-6)  # then the same call can be promised
        assert asyncio.get_running_loop().time() == now
        await limiter.acquire("k", 5, wait=0.5)
        assert asyncio.get_running_loop().time() == pytest.approx(now + 0.5, abs=1e-6)

    run_virtually(main())


def test_RL10_a_cancelled_waiter_gives_back_and_those_behind_move_forward(kept: str) -> None:
    async def main() -> list[tuple[str, float]]:
        limiter = asynchronous(kept, TEN)
        await limiter.acquire("k", 10)
        served: list[tuple[str, float]] = []
        first = asyncio.create_task(limiter.acquire("k", 10, wait=5))
        await started(first)
        second = asyncio.create_task(timed(limiter.acquire("k", 3, wait=5), served, "second"))
        third = asyncio.create_task(timed(limiter.acquire("k", 2, wait=5), served, "third"))
        await started(second, third)
        await pause(0.1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(RateLimited):
            await limiter.acquire("k", 1)  # behind those who wait still
        await asyncio.gather(second, third)
        return served

    with measured() as seen:
        assert run_virtually(main()) == [("second", 0.3), ("third", 0.5)]
    name = f"waiting-{kept}"
    assert seen.count("rate_limiter.requests", policy_name=name, result="canceled") == 1
    assert seen.count("rate_limiter.requests", policy_name=name, result="acquired") == 3
    assert seen.count("rate_limiter.requests", policy_name=name, result="limited") == 1
    assert seen.count("rate_limiter.wait.duration", policy_name=name, result="canceled") == 1
    assert seen.seconds("rate_limiter.wait.duration", policy_name=name, result="acquired") == pytest.approx(0.8)
    assert seen.value("rate_limiter.queued_requests", policy_name=name) == 0


def test_AS3_a_timeout_around_a_waiter_is_obeyed_and_costs_nothing(kept: str) -> None:
    async def main() -> None:
        limiter = asynchronous(kept, TEN)
        await limiter.acquire("k", 10)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await limiter.acquire("k", 10, wait=60)
        await pause(0.8)
        assert (await limiter.try_acquire("k", 10)).allowed  # all of them are there

    run_virtually(main())


def test_RL10_a_thousand_waiters_that_leave_first_to_last_leave_the_bucket_as_it_was(kept: str) -> None:
    async def main() -> float:
        limiter = asynchronous(kept, TEN)
        await limiter.acquire("k", 10)
        tasks = [asyncio.create_task(limiter.acquire("k", 1, wait=1000)) for _ in range(300)]
        await started(*tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return (await limiter.try_acquire("k")).retry_after

    assert run_virtually(main()) == pytest.approx(0.1, abs=1e-6)


def test_RL10_a_reservation_says_when_and_can_be_cancelled_within_its_delay(kept: str) -> None:
    clock = ManualClock()
    limiter = blocking(kept, TEN, clock)
    limiter.acquire("k", 10)
    reservation = limiter.reserve("k", 4, max_wait=1)
    assert (reservation.key, reservation.cost) == ("k", 4)
    assert reservation.delay == pytest.approx(0.4)
    clock.advance(0.3)
    assert reservation.delay == pytest.approx(0.1)
    assert reservation.cancel()
    assert not reservation.cancel()  # once
    assert limiter.try_acquire("k", 3).allowed  # what came in meanwhile
    assert not limiter.try_acquire("k", 1).allowed
    late = limiter.reserve("k", 1, max_wait=1)
    clock.advance(0.1)
    assert late.delay == 0
    assert not late.cancel()  # its moment has come: it may have been used
    with pytest.raises(RateLimited):
        limiter.reserve("k", 10, max_wait=0.5)


def test_RL10_blocking_callers_sleep_once_and_exactly(kept: str) -> None:
    clock = ManualClock()
    limiter = blocking(kept, TEN, clock)
    limiter.acquire("k", 10)
    limiter.acquire("k", 5, wait=2)
    assert clock() == pytest.approx(1000.5)
    limiter.reserve("k", 5, max_wait=2).wait()
    assert clock() == pytest.approx(1001.0)
    assert limiter.try_acquire("k").remaining == 0


def test_RL10_an_interrupted_thread_gives_its_tokens_back() -> None:
    clock = ManualClock()
    limiter = blocking("memory", TEN, clock)

    class Interrupted(Alone):
        def signal(self) -> Any:
            class Interrupting(_Passing):
                async def wait(self, timeout: float | None = None) -> bool:
                    raise KeyboardInterrupt

            return Interrupting(clock)

    buckets: Any = limiter.buckets
    hasty = RateLimiter(buckets, name="interrupted", runtime=Interrupted(clock))
    limiter.acquire("k", 10)
    with measured() as seen, pytest.raises(KeyboardInterrupt):
        hasty.acquire("k", 10, wait=5)
    assert seen.count("rate_limiter.requests", policy_name="interrupted", result="canceled") == 1
    clock.advance(1)
    assert limiter.try_acquire("k", 10).allowed


def test_RL10_threads_wait_side_by_side_in_the_order_of_asking() -> None:
    """Real threads on the real runtime, 2 ms a token: nobody is early, and the order is that of asking."""
    limiter = RateLimiter(MemoryBuckets(Rate.of("500/second;burst=1")), name="threads-wait")
    limiter.acquire()
    served: list[int] = []
    asked = threading.Barrier(2)

    def work(number: int) -> None:
        reservation = limiter.reserve(max_wait=30)
        asked.wait(10)
        reservation.wait()
        served.append(number)

    threads = []
    for number in range(8):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        asked.wait(10)
    for thread in threads:
        thread.join(10)
    assert sorted(served) == list(range(8))
    assert limiter.try_acquire().limit.capacity == 1


def test_RL10_a_refund_never_makes_a_bucket_more_than_full(kept: str) -> None:
    clock = ManualClock()
    limiter = blocking(kept, TEN, clock)
    limiter.acquire("k", 6)
    assert limiter.refund("k", 2)
    assert limiter.try_acquire("k", 6).allowed
    clock.advance(2)  # full again
    assert not limiter.refund("k", 6)
    assert [limiter.try_acquire("k").allowed for _ in range(11)] == [True] * 10 + [False]
    assert limiter.refund("k", 10)
    assert limiter.refund("k", 10) is False
    assert [limiter.try_acquire("k").allowed for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda limiter: limiter.acquire("k", 11, wait=5),  # more than the burst, however long one waits
        lambda limiter: limiter.acquire("k", wait=-1.0),
        lambda limiter: limiter.acquire("k", wait=float("nan")),
        lambda limiter: limiter.reserve("k", 0, max_wait=1),
        lambda limiter: limiter.reserve(7, max_wait=1),
        lambda limiter: limiter.refund("k", 11),
        lambda limiter: limiter.refund("k", True),
    ],
)
def test_bad_input_is_refused_and_takes_nothing(kept: str, wrong: Callable[[RateLimiter], object]) -> None:
    limiter = blocking(kept, TEN, ManualClock())
    with pytest.raises(Misuse):
        wrong(limiter)
    assert limiter.try_acquire("k", 10).allowed


class Dead:
    """Buckets whose store is down: a fake, since what a dead server does is tested with a real one in tests/faults."""

    rate = Rate.of("3/hour")
    scale = rate.server

    def charge(self, key: str, cost: int) -> int:
        raise StoreFailed("timeout", "no answer within the budget")

    def take(self, key: str, cost: int, ahead: float) -> Any:
        raise StoreFailed("timeout", "no answer within the budget")

    def give(self, key: str, cost: int, until: int) -> bool:
        raise StoreFailed("timeout", "no answer within the budget")

    def reconfigure(self, rate: Rate, carry: str) -> None:
        raise AssertionError("not asked for here")


def test_RL8_waiting_beside_a_dead_store_follows_the_failure_mode() -> None:
    opened = RateLimiter(Dead(), name="dead-waiting", on_store_failure="open")
    with measured() as seen:
        opened.acquire("k", wait=5)
        assert opened.reserve("k", max_wait=5).delay == 0
        assert not opened.refund("k")
    assert seen.count("rate_limiter.requests", policy_name="dead-waiting", result="store_error_open") == 2
    assert seen.count("rate_limiter.requests", policy_name="dead-waiting") == 2
    with pytest.raises(Unavailable):
        RateLimiter(Dead(), name="dead-closed", on_store_failure="closed").acquire("k", wait=5)
