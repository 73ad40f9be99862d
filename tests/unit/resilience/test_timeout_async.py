"""Timeouts of `async def` in virtual time: on time, nested, cancelled from outside, in many loops (AS-3, AS-4)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import random
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.resilience.timeout import (
    AttemptTimeout,
    CallTimedOut,
    DeadlineExceeded,
    Timeout,
    TimeoutSettings,
    deadline,
    remaining,
)
from backstay.resilience.timeout.deadline import DUE, leave
from backstay.testing import measured
from unit.resilience.virtual_loop import VirtualLoop, run_virtually

passes = asyncio.sleep  # of virtual time


def loop_time() -> float:
    return asyncio.get_running_loop().time()


def limit(seconds: float, kind: type[Timeout] = Timeout) -> Timeout:
    return kind("slow", seconds, clock=loop_time)


async def wait(seconds: float) -> float:
    await passes(seconds)
    return seconds


async def ended(call: Callable[[], Awaitable[Any]]) -> tuple[str, float]:
    """How a call ended, and after how many seconds."""
    began = loop_time()
    try:
        await call()
    except BaseException as error:
        return type(error).__name__, round(loop_time() - began, 6)
    return "returned", round(loop_time() - began, 6)


def test_a_call_in_time_keeps_its_result_and_its_error() -> None:
    @limit(1.0)
    async def call(error: Exception | None) -> str:
        await passes(0.999)
        if error is not None:
            raise error
        return "done"

    async def main() -> None:
        assert await call(None) == "done"
        own = LookupError("own")
        with pytest.raises(LookupError) as raised:
            await call(own)
        assert raised.value is own
        assert remaining(clock=loop_time) is None

    run_virtually(main())


def test_RT1_a_late_call_is_cancelled_on_time_and_its_outcome_is_unknown() -> None:
    async def main() -> None:
        slow = limit(1.0)(wait)
        assert await ended(lambda: slow(5.0)) == ("CallTimedOut", 1.0)
        with pytest.raises(CallTimedOut, match=r"'slow' did not end within 1.000 s") as late:
            await slow(5.0)
        assert isinstance(late.value, OutcomeUnknown)
        assert isinstance(late.value, TimeoutError)
        assert str(pickle.loads(pickle.dumps(late.value))) == str(late.value)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await passes(0.1)  # nothing of it is left to strike

    run_virtually(main())


def test_a_thousand_timeouts_are_on_time() -> None:
    async def main() -> None:
        slow = limit(0.5)(wait)

        async def one(number: int) -> tuple[str, float]:
            await passes(number / 1000)
            return await ended(lambda: slow(0.1 if number % 10 == 0 else 9.0))

        results = await asyncio.gather(*(one(number) for number in range(1000)))
        assert [result for number, result in enumerate(results) if number % 10] == [("CallTimedOut", 0.5)] * 900
        assert [result for number, result in enumerate(results) if number % 10 == 0] == [("returned", 0.1)] * 100

    run_virtually(main())


def test_a_call_that_ends_leaves_nothing_in_the_line() -> None:
    async def main() -> None:
        policy = limit(60.0)
        quick = policy(wait)
        for _ in range(100):
            await quick(0.0)
        (line,) = policy._pace.lines.values()
        assert (len(line.calls), line.armed) == (0, True)
        await passes(61)
        assert line.armed is False
        await quick(0.0)
        assert line.armed is True

    run_virtually(main())


@pytest.mark.parametrize(("total", "attempt", "expected"), [(1.0, 0.4, 0.4), (0.4, 1.0, 0.4), (0.5, 0.5, 0.5)])
def test_nested_timeouts_strike_at_the_nearer_one(total: float, attempt: float, expected: float) -> None:
    async def main() -> None:
        slow = limit(total)(limit(attempt, AttemptTimeout)(wait))
        assert await ended(lambda: slow(9.0)) == ("CallTimedOut", expected)
        assert await ended(lambda: slow(0.1)) == ("returned", 0.1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run_virtually(main())


def test_each_attempt_has_all_of_its_timeout_and_all_of_them_the_total() -> None:
    async def main() -> None:
        attempts: list[float | None] = []

        @limit(0.4, AttemptTimeout)
        async def attempt() -> None:
            attempts.append(remaining(clock=loop_time))
            await passes(9)

        @limit(1.0)
        async def in_all() -> None:
            while True:
                try:
                    await attempt()
                except CallTimedOut:
                    continue

        assert await ended(in_all) == ("CallTimedOut", 1.0)
        assert attempts == [pytest.approx(0.4), pytest.approx(0.4), pytest.approx(0.2)]

    run_virtually(main())


def test_AS3_a_timeout_of_asyncio_outside_is_obeyed_and_not_renamed() -> None:
    async def main() -> None:
        slow = limit(2.0)(wait)
        began = loop_time()
        with pytest.raises(TimeoutError) as late:
            async with asyncio.timeout(1.0):
                await slow(9.0)
        assert not isinstance(late.value, CallTimedOut)
        assert loop_time() - began == pytest.approx(1.0)
        with pytest.raises(CallTimedOut):
            async with asyncio.timeout(3.0):
                await slow(9.0)

    run_virtually(main())


def test_AS3_of_300_cancellations_that_race_with_the_deadline_none_is_swallowed() -> None:
    chance = random.Random(3)
    told: set[bool] = set()

    async def main() -> None:
        slow = limit(0.5)(limit(0.5, AttemptTimeout)(wait))
        loop = asyncio.get_running_loop()
        for _ in range(300):
            task = asyncio.create_task(slow(9.0))
            accepted: list[bool] = []

            def cancel(task: asyncio.Task[float] = task, accepted: list[bool] = accepted) -> None:
                accepted.append(task.cancel())

            at = loop.time() + 0.5 + chance.choice([-1e-6, 0.0, 0.0, 0.0, 1e-6])
            if chance.random() < 0.5:
                loop.call_at(at, cancel)  # before the timer is set
                await passes(0)
            else:
                await passes(0)
                loop.call_at(at, cancel)
            await asyncio.wait([task])
            await passes(0.001)
            assert task.cancelled() == accepted[0], "a cancellation that was accepted is a cancellation"
            told.add(task.cancelled())
            if not task.cancelled():
                assert isinstance(task.exception(), CallTimedOut)

    run_virtually(main())
    assert told == {True, False}


def test_a_call_that_catches_its_cancellation_keeps_its_result() -> None:
    async def main() -> None:
        @limit(1.0)
        async def stubborn() -> str:
            try:
                await passes(9)
            except asyncio.CancelledError:
                return "saved"
            return "late"

        with measured() as counts:
            assert await stubborn() == "saved"
        assert counts.count("timeout.calls", timed_out=True) == 1
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await passes(0)

    run_virtually(main())


def test_a_call_that_answers_its_cancellation_by_an_error_of_its_own_keeps_that() -> None:
    async def main() -> None:
        @limit(1.0)
        async def tidy() -> None:
            try:
                await passes(9)
            except asyncio.CancelledError:
                raise LookupError("tidied") from None

        with pytest.raises(LookupError, match="tidied"):
            await tidy()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run_virtually(main())


def test_a_nearer_deadline_outside_counts_and_one_that_has_passed_refuses() -> None:
    begun: list[float] = []

    async def main() -> None:
        @limit(2.0)
        async def slow() -> None:
            begun.append(loop_time())
            await passes(9)

        with deadline(0.5, clock=loop_time):
            assert await ended(slow) == ("CallTimedOut", 0.5)
            with pytest.raises(DeadlineExceeded) as refused:
                await slow()
            assert isinstance(refused.value, Unavailable)
        with deadline(30.0, clock=loop_time):
            assert await ended(slow) == ("CallTimedOut", 2.0)

    run_virtually(main())
    assert len(begun) == 2


def test_what_is_inside_sees_what_remains_and_tasks_inherit_it() -> None:
    async def main() -> None:
        @limit(2.0)
        async def call() -> float | None:
            await passes(0.5)
            return await asyncio.create_task(_remaining())

        assert await call() == pytest.approx(1.5)

    async def _remaining() -> float | None:
        return remaining(clock=loop_time)

    run_virtually(main())


def test_reconfigured_seconds_hold_for_calls_that_begin_later() -> None:
    async def main() -> None:
        policy = limit(5.0)
        slow = policy(wait)
        running = asyncio.create_task(ended(lambda: slow(60.0)))
        await passes(1.0)
        policy.reconfigure(TimeoutSettings.of(0.5))
        assert await ended(lambda: slow(60.0)) == ("CallTimedOut", 0.5)
        assert await running == ("CallTimedOut", 5.0)
        assert policy.settings.seconds == 0.5

    run_virtually(main())


def test_AS4_one_timeout_serves_many_loops_and_threads() -> None:
    slow = limit(0.5)(wait)
    results: list[list[tuple[str, float]]] = []

    async def main() -> list[tuple[str, float]]:
        return await asyncio.gather(*(ended(lambda: slow(9.0)) for _ in range(50)), ended(lambda: slow(0.1)))

    threads = [threading.Thread(target=lambda: results.append(run_virtually(main()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[("CallTimedOut", 0.5)] * 50 + [("returned", 0.1)]] * 8


def test_AS4_loops_that_are_closed_are_forgotten() -> None:
    policy = limit(0.5)
    quick = policy(wait)
    loops: list[weakref.ref[VirtualLoop]] = []
    for _ in range(5):
        loop = VirtualLoop()
        loops.append(weakref.ref(loop))
        loop.run_until_complete(quick(0.1))
        loop.close()
        del loop
    gc.collect()
    assert [reference() is None for reference in loops] == [True] * 4 + [False]
    policy.renew()
    gc.collect()
    assert loops[-1]() is None


def test_the_timer_keeps_no_caller_s_variables_alive() -> None:
    class Tenant:
        pass

    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("tenant_of_timeout")

    async def main() -> None:
        quick = limit(600.0)(wait)

        async def as_tenant() -> weakref.ref[Tenant]:
            tenant = Tenant()
            variable.set(tenant)
            await quick(0.0)
            return weakref.ref(tenant)

        kept = await asyncio.create_task(as_tenant())
        await passes(0)
        gc.collect()
        assert kept() is None

    run_virtually(main())


def test_a_deadline_is_taken_back_in_a_foreign_context_without_a_word() -> None:
    token = contextvars.Context().run(DUE.set, 1.0)
    leave(DUE, token)
    assert DUE.get() is None


def test_a_coroutine_that_is_closed_half_way_leaves_the_line() -> None:
    async def main() -> None:
        policy = limit(5.0)
        inner = policy(wait)(60.0)

        async def step() -> None:
            inner.send(None)

        await asyncio.create_task(step())
        (line,) = policy._pace.lines.values()
        assert len(line.calls) == 1
        inner.close()
        assert len(line.calls) == 0
        assert DUE.get() is None

    run_virtually(main())


def test_without_a_task_there_is_nothing_to_cancel() -> None:
    async def main() -> None:
        coroutine = limit(1.0)(wait)(0.1)
        errors: list[BaseException] = []

        def step() -> None:
            try:
                coroutine.send(None)
            except Misuse as error:
                errors.append(error)

        asyncio.get_running_loop().call_soon(step)
        await passes(0)
        await passes(0)
        assert [str(error) for error in errors] == [
            "'slow': a timeout cancels the task that it runs in, and here is none"
        ]

    run_virtually(main())


def test_calls_are_counted_as_in_time_or_late() -> None:
    async def main() -> None:
        slow = limit(1.0)(wait)
        with measured() as counts:
            results = await asyncio.gather(*(ended(lambda s=s: slow(s)) for s in (0.1, 0.2, 5.0)))  # type: ignore[misc]
            task = asyncio.create_task(slow(0.9))
            await passes(0.1)
            task.cancel()
            await asyncio.wait([task])
        assert [name for name, _ in results] == ["returned", "returned", "CallTimedOut"]
        assert counts.count("timeout.calls", timed_out=True, policy_type="timeout", resource="slow") == 1
        assert counts.count("timeout.calls", timed_out=False) == 3

    run_virtually(main())
