"""The thread-pool bulkhead: bounded, honest about time, and never a promise to stop a thread (BH-2, BH-3, BH-4)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from backstay.errors import BulkheadFull, Misuse
from backstay.resilience.bulkhead import Pending, ThreadPool, ThreadPoolSettings, cancelled
from backstay.resilience.timeout import CallTimedOut, DeadlineExceeded, Timeout, deadline, remaining
from backstay.testing import ManualClock, measured


class Work:
    """Calls that run until the test lets them go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.asked: list[bool] = []

    def __call__(self) -> str:
        self.begun.release()
        assert self.gate.wait(30)
        self.asked.append(cancelled())
        return "done"

    def wait_begun(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.begun.acquire(timeout=10)


@contextmanager
def opened(name: str, **settings: Any) -> Iterator[tuple[ThreadPool, Work]]:
    pool, work = ThreadPool(name, **settings), Work()
    try:
        yield pool, work
    finally:
        work.gate.set()
        assert pool.close(10)


def test_a_call_runs_in_a_worker_and_gives_what_the_function_gives() -> None:
    with opened("plain", core=1, max=1, queue=1) as (pool, _):

        @pool
        def add(a: int, *, b: int) -> tuple[int, str]:
            return a + b, threading.current_thread().name

        assert add(1, b=2) == (3, "backstay-plain-1")
        assert pool.call(lambda: 7) == 7
        assert asyncio.run(pool.call_async(lambda: 8)) == 8


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), StopIteration(1)])
def test_what_the_function_raises_reaches_the_caller(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with opened("raises", core=1, max=1, queue=0) as (pool, _):
        with pytest.raises(type(error)) as raised:
            pool.call(fail)
        assert raised.value is error
        assert pool.call(lambda: 1) == 1
        assert pool.running == 0


def test_BH2_the_full_pool_refuses_in_the_caller_within_a_millisecond() -> None:
    with opened("full", core=1, max=2, queue=3) as (pool, work), measured() as seen:
        pending = [pool.submit(work) for _ in range(5)]
        work.wait_begun(2)
        assert (pool.running, pool.queued) == (2, 3)
        took: list[float] = []
        for _ in range(50):
            began = time.thread_time()
            with pytest.raises(BulkheadFull, match="'full': all workers are busy and 3 calls wait; .*not called"):
                pool.call(work)
            took.append(time.thread_time() - began)
        assert sorted(took)[25] < 0.001
        assert seen.count("bulkhead.wait.duration", result="rejected", kind="thread_pool") == 50
        work.gate.set()
        assert [each.result() for each in pending] == ["done"] * 5
        assert (pool.running, pool.queued) == (0, 0)


@pytest.mark.parametrize(("calls", "running"), [(1, 1), (2, 2), (4, 2), (5, 3), (6, 4)])
def test_BH2_core_workers_first_then_the_queue_then_the_others(calls: int, running: int) -> None:
    with opened("order", core=2, max=4, queue=2) as (pool, work):
        pending = [pool.submit(work) for _ in range(calls)]
        work.wait_begun(running)
        assert (pool.running, pool.queued) == (running, calls - running)
        work.gate.set()
        assert [each.result() for each in pending] == ["done"] * calls


def test_BH2_the_wait_in_the_queue_is_measured() -> None:
    clock = ManualClock()
    with opened("measured", core=1, max=1, queue=1, clock=clock) as (pool, work), measured() as seen:
        first = pool.submit(work)
        work.wait_begun()
        second = pool.submit(work)
        clock.advance(3)
        work.gate.set()
        assert [first.result(), second.result()] == ["done", "done"]
        assert seen.count("bulkhead.wait.duration", result="accepted") == 2
        assert seen.seconds("bulkhead.wait.duration", result="accepted") == pytest.approx(3)


def test_BH2_work_whose_time_passed_in_the_queue_is_never_begun() -> None:
    clock, begun = ManualClock(), list[int]()
    with opened("expired", core=1, max=1, queue=1, clock=clock) as (pool, work), measured() as seen:
        pool.submit(work)
        work.wait_begun()
        late = pool.submit(partial(begun.append, 1), timeout=60)
        clock.advance(60)
        work.gate.set()
        until(lambda: late.done)
        with pytest.raises(DeadlineExceeded, match="the time was up after 60 s in the queue"):
            late.result()
        assert begun == []
        assert seen.count("bulkhead.wait.duration", result="timed_out") == 1


def test_BH2_a_caller_leaves_the_queue_in_time_and_its_place_is_free() -> None:
    with opened("leaves", core=1, max=1, queue=1) as (pool, work):
        pool.submit(work)
        work.wait_begun()
        for _ in range(3):
            with pytest.raises(DeadlineExceeded, match="no worker was free for"):
                pool.call(work, timeout=0.005)
            assert pool.queued == 0
        with pytest.raises(DeadlineExceeded), deadline(0.005):
            pool.call(work)
        with pytest.raises(DeadlineExceeded), deadline(0):
            pool.call(work)


def test_BH4_the_caller_is_freed_on_time_and_the_worker_is_shown_as_abandoned() -> None:
    with opened("zombie", core=1, max=2, queue=1) as (pool, work), measured() as seen:
        began = time.monotonic()
        with pytest.raises(CallTimedOut, match="'zombie': the call did not end within .* runs on, abandoned"):
            pool.call(work, timeout=0.05)
        assert 0.05 <= time.monotonic() - began < 5
        assert (pool.running, pool.abandoned) == (0, 1)
        assert seen.value("bulkhead.usage", resource="zombie", state="abandoned") == 1
        assert seen.value("bulkhead.usage", resource="zombie", state="active") == 0
        assert pool.call(lambda: "served by the other") == "served by the other"
        work.gate.set()
        until(lambda: pool.abandoned == 0)
        assert work.asked == [True]
        assert pool._crew.permits.in_use == 0


def test_BH4_a_pool_of_zombies_refuses_and_does_not_hang() -> None:
    clock = ManualClock()
    with opened("dead", core=1, max=2, queue=5, clock=clock) as (pool, work):
        outcomes: list[BaseException] = []

        def patient() -> None:
            try:
                pool.call(lambda: None)
            except BaseException as error:
                outcomes.append(error)

        first = pool.submit(work, timeout=60)
        work.wait_begun()
        clock.advance(60)
        with pytest.raises(CallTimedOut):
            first.result()
        second = pool.submit(work, timeout=60)
        work.wait_begun()
        waiting = threading.Thread(target=patient)
        waiting.start()
        until(lambda: pool.queued == 1)
        clock.advance(60)
        with pytest.raises(CallTimedOut):
            second.result()
        waiting.join(10)
        assert not waiting.is_alive()
        assert isinstance(outcomes[0], BulkheadFull)
        with pytest.raises(BulkheadFull, match="all 2 workers are abandoned calls that have not ended"):
            pool.call(lambda: None)
        work.gate.set()
        until(lambda: pool.abandoned == 0)
        assert pool.call(lambda: 1) == 1


def test_BH4_cancelled_is_false_while_somebody_waits_and_outside_a_pool() -> None:
    assert not cancelled()
    with opened("asked", core=1, max=1, queue=0) as (pool, _):
        assert pool.call(cancelled) is False


def test_BH3_each_call_has_its_callers_context_and_changes_stay_there() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")

    def change() -> str:
        seen = tenant.get()
        tenant.set("changed")
        return seen

    with opened("context", core=1, max=1, queue=0) as (pool, _):
        for name in ("a", "b"):
            tenant.set(name)
            assert pool.call(change) == name
            assert tenant.get() == name

        async def main() -> str:
            tenant.set("async")
            return await pool.call_async(change)

        assert asyncio.run(main()) == "async"
        with deadline(50):
            assert 40 < (pool.call(remaining) or 0) <= 50


def test_CO4_a_call_from_a_worker_of_the_same_pool_runs_in_place() -> None:
    with opened("nested", core=1, max=1, queue=0) as (pool, _):

        @pool
        def inner() -> int:
            return threading.get_ident()

        @pool
        def outer() -> tuple[int, int]:
            return threading.get_ident(), inner()

        here, there = outer()
        assert here == there != threading.get_ident()


def test_AS1_the_loop_goes_on_while_workers_work() -> None:
    with opened("loop", core=2, max=2, queue=2) as (pool, work):

        async def main() -> list[str]:
            calls = [asyncio.create_task(pool.call_async(work)) for _ in range(4)]
            turns = 0
            while turns < 100:  # a blocked loop would never get here
                await asyncio.sleep(0)
                turns += 1
            work.gate.set()
            return await asyncio.gather(*calls)

        assert asyncio.run(main()) == ["done"] * 4


def test_AS3_a_cancelled_task_leaves_the_queue_or_abandons_its_worker() -> None:
    with opened("cancelled", core=1, max=1, queue=1) as (pool, work), measured() as seen:

        async def main() -> None:
            first = asyncio.create_task(pool.call_async(work))
            await asyncio.to_thread(work.wait_begun)
            second = asyncio.create_task(pool.call_async(work))
            await asyncio.sleep(0)
            assert (pool.running, pool.queued) == (1, 1)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert (pool.running, pool.queued, pool.abandoned) == (1, 0, 0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert (pool.running, pool.abandoned) == (0, 1)

        asyncio.run(main())
        assert seen.count("bulkhead.wait.duration", result="canceled") == 1
        work.gate.set()
        until(lambda: pool.abandoned == 0)
        assert work.asked == [True]


def test_BH4_an_awaiting_caller_is_freed_on_time() -> None:
    with opened("awaited", core=1, max=1, queue=1) as (pool, work):

        async def main() -> None:
            with pytest.raises(CallTimedOut):
                await pool.call_async(work, timeout=0.01)
            with pytest.raises(BulkheadFull):
                await pool.call_async(work, timeout=0.01)

        asyncio.run(main())


def test_a_result_is_taken_once() -> None:
    with opened("once", core=1, max=1, queue=0) as (pool, _):
        pending = pool.submit(lambda: 7)
        assert pending.result() == 7
        with pytest.raises(Misuse, match="can be taken once"):
            pending.result()


def test_a_submitted_call_can_be_given_up() -> None:
    with opened("given-up", core=1, max=1, queue=1) as (pool, work):
        running = pool.submit(work)
        work.wait_begun()
        queued: Pending[str] = pool.submit(work)
        queued.cancel()
        assert (pool.queued, queued.done) == (0, False)
        running.cancel()
        assert pool.abandoned == 1
        work.gate.set()
        until(lambda: running.done)
        assert work.asked == [True]


def test_AS2_async_def_and_streams_are_refused_when_decorated() -> None:
    with opened("colour", core=1, max=1, queue=0) as (pool, _):

        async def fetch() -> None: ...

        def produce() -> Iterator[int]:
            yield 1

        with pytest.raises(Misuse, match="fetch\\(\\) is async def, and a thread pool runs plain functions"):
            pool(fetch)
        with pytest.raises(Misuse, match="generator"):
            pool(produce)


def test_workers_above_core_leave_when_idle_and_come_back() -> None:
    with opened("idle", core=1, max=3, queue=1, keep_alive=0.005) as (pool, work):
        for _ in range(3):
            pending = [pool.submit(work) for _ in range(4)]
            work.wait_begun(3)
            work.gate.set()
            assert [each.result() for each in pending] == ["done"] * 4
            work.wait_begun()
            until(lambda: len(pool._crew._threads) == 1)
            work.gate.clear()


def test_idle_workers_leave_when_fewer_are_to_be_kept() -> None:
    with opened("fewer", core=3, max=3, queue=0) as (pool, work):
        pending = [pool.submit(work) for _ in range(3)]
        work.gate.set()
        assert [each.result() for each in pending] == ["done"] * 3
        pool.reconfigure(ThreadPoolSettings(core=1, max=3, queue=0, keep_alive=0.001))
        until(lambda: len(pool._crew._threads) == 1)
        assert pool.call(lambda: 1) == 1


def test_numbers_change_while_calls_run() -> None:
    with opened("live", core=1, max=1, queue=0) as (pool, work):
        first = pool.submit(work)
        with pytest.raises(BulkheadFull):
            pool.submit(work)
        pool.reconfigure(ThreadPoolSettings(core=2, max=2, queue=1))
        others = [pool.submit(work), pool.submit(work)]
        work.wait_begun(2)
        assert (pool.running, pool.queued) == (2, 1)
        pool.reconfigure(ThreadPoolSettings(core=1, max=1, queue=0))
        with pytest.raises(BulkheadFull):
            pool.submit(work)
        work.gate.set()
        assert [each.result() for each in (first, *others)] == ["done"] * 3
        until(lambda: pool._crew.permits.in_use == 0)
        assert pool.call(lambda: 1) == 1


def test_a_closed_pool_finishes_what_it_has_and_takes_no_more() -> None:
    pool, work = ThreadPool("closed", core=1, max=1, queue=2), Work()
    pending = [pool.submit(work) for _ in range(3)]
    work.wait_begun()
    assert not pool.close(0.01)
    with pytest.raises(Misuse, match="'closed' is closed"):
        pool.call(work)
    work.gate.set()
    assert [each.result() for each in pending] == ["done"] * 3
    assert pool.close(10)


def test_a_pool_that_nobody_holds_lets_its_workers_go() -> None:
    pool = ThreadPool("dropped", core=2, max=2, queue=1)
    pool.call(lambda: None)
    crew = pool._crew
    assert len(crew._threads) == 1
    del pool
    gc.collect()
    until(lambda: not crew._threads)


def test_arguments_and_results_are_not_kept_alive_by_an_idle_worker() -> None:
    class Big:
        pass

    with opened("memory", core=1, max=1, queue=0) as (pool, _):
        gc.disable()
        try:
            given = Big()
            seen = weakref.ref(given)
            assert pool.call(partial(id, given)) == id(given)
            del given
            until(lambda: seen() is None)
            made = pool.call(Big)
            seen = weakref.ref(made)
            del made
            until(lambda: seen() is None)
        finally:
            gc.enable()


def test_IN2_a_forked_child_has_workers_of_its_own() -> None:
    with opened("forked", core=1, max=1, queue=0) as (pool, work):
        pool.submit(work)
        work.wait_begun()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                os.write(writing, b"ok" if pool.call(lambda: 7, timeout=10) == 7 else b"no")
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            assert answer.read() == b"ok"
        os.waitpid(child, 0)
        assert pool.running == 1


def test_BH4_a_timeout_of_a_plain_function_is_kept_by_the_pool() -> None:
    with opened("timed", core=1, max=1, queue=1) as (pool, work), measured() as seen:
        timed = Timeout("timed", 0.02, pool=pool)(work)
        with pytest.raises(CallTimedOut):
            timed()
        assert pool.abandoned == 1
        assert seen.count("timeout.calls", resource="timed", timed_out=True) == 1


def test_BH4_a_call_that_ends_at_the_last_moment_gives_its_result() -> None:
    """The time is up while the result is on its way: whoever sees the other settles it, and nothing is abandoned."""
    with opened("close-run", core=1, max=1, queue=0) as (pool, work):
        crew, pending = pool._crew, pool.submit(work)
        work.wait_begun()
        work.gate.set()
        until(lambda: pending.done)
        crew.give_up(pending._job)
        assert pending.result() == "done"
        assert pool.abandoned == 0


def test_many_threads_and_short_timeouts_leave_nothing_behind() -> None:
    with opened("stress", core=2, max=4, queue=4) as (pool, _), measured() as seen:
        counts, lock = {"done": 0, "refused": 0, "late": 0, "unknown": 0}, threading.Lock()
        pause = threading.Event()

        def loop(number: int) -> None:
            for turn in range(60):
                try:
                    pool.call(partial(pause.wait, 0.0005), timeout=0.0002 * ((number + turn) % 7 + 1))
                    outcome = "done"
                except BulkheadFull:
                    outcome = "refused"
                except DeadlineExceeded:
                    outcome = "late"
                except CallTimedOut:
                    outcome = "unknown"
                with lock:
                    counts[outcome] += 1

        threads = [threading.Thread(target=loop, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sum(counts.values()) == 16 * 60
        until(lambda: pool._crew.permits.in_use == 0)
        assert (pool.running, pool.queued, pool.abandoned) == (0, 0, 0)
        assert seen.count("bulkhead.wait.duration", resource="stress", kind="thread_pool") == 16 * 60
        assert seen.count("bulkhead.wait.duration", resource="stress", result="rejected") == counts["refused"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, ThreadPoolSettings(core=3, max=3)),
        ({"core": 1, "max": 2, "queue": 0}, ThreadPoolSettings(core=1, max=2, queue=0)),
        (ThreadPoolSettings(), ThreadPoolSettings()),
    ],
)
def test_settings_are_read_from_what_a_user_writes(value: Any, expected: ThreadPoolSettings) -> None:
    assert ThreadPoolSettings.of(value) == expected


@pytest.mark.parametrize(
    "value",
    [0, True, "3", None, 1.5, {"core": 0}, {"core": 3, "max": 2}, {"queue": -1}, {"keep_alive": 0}, {"cores": 1}],
)
def test_wrong_settings_are_refused_at_once(value: Any) -> None:
    with pytest.raises(Misuse):
        ThreadPoolSettings.of(value)


def test_settings_come_in_one_form_only() -> None:
    with pytest.raises(Misuse, match="give settings=, or core, but not both"):
        ThreadPool("both", core=1, settings=ThreadPoolSettings())


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere, for as long as a loaded machine may take."""
    turn = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        turn.wait(0.0005)
    raise AssertionError("it did not come about")
