"""Timeouts and retries on real event loops, in real time and in forked children."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
import tenacity

from backstay.resilience.retry import Retry
from backstay.resilience.timeout import AttemptTimeout, CallTimedOut, Timeout

BEST_OF = 8  # this machine has other work: one round without it is enough


def test_AS3_a_timeout_of_asyncio_outside_is_obeyed_within_10_ms() -> None:
    async def hang() -> None:
        await asyncio.sleep(30)

    stubborn = Retry("real", retry=tenacity.retry_always, attempts=100, budget=None)
    layers = (stubborn(hang), stubborn(Timeout("real", 20)(AttemptTimeout("real", 10)(hang))))

    async def overrun() -> float:
        worst = 0.0
        for call in layers:
            began = time.perf_counter()
            with pytest.raises(TimeoutError) as late:
                async with asyncio.timeout(0.05):
                    await call()
            worst = max(worst, time.perf_counter() - began - 0.05)
            assert not isinstance(late.value, CallTimedOut)
        return worst

    assert min(asyncio.run(overrun()) for _ in range(BEST_OF)) < 0.010


def test_a_thousand_timeouts_of_a_real_loop_are_on_time() -> None:
    slow = Timeout("real", 0.05)(asyncio.sleep)

    async def one() -> float:
        began = time.perf_counter()
        try:
            await slow(30)
        except CallTimedOut:
            return time.perf_counter() - began
        raise AssertionError("it returned")

    async def all_of_them() -> float:
        took = await asyncio.gather(*(one() for _ in range(1000)))
        assert min(took) >= 0.05
        return max(took)

    assert min(asyncio.run(all_of_them()) for _ in range(BEST_OF)) < 0.12


def test_IN2_a_forked_child_times_out_and_retries_by_itself() -> None:
    retry = Retry("real", attempts=2, first_wait=0.0, longest_wait=0.0, budget_reserve=1, budget_floor=0.0)
    slow = Timeout("real", 0.05)(asyncio.sleep)
    outcomes = iter([OSError()] * 2 + [None] * 50 + [OSError(), None])

    @retry
    def flaky() -> str:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return "done"

    async def late() -> bool:
        try:
            await slow(30)
        except CallTimedOut:
            return True
        return False

    assert asyncio.run(late())
    for _ in range(2):  # spends the only retry; then 50 good calls, of which the child must count its own
        try:
            flaky()
        except OSError:
            break
    for _ in range(10):
        assert flaky() == "done"
    child = os.fork()
    if child == 0:
        good = False
        try:
            good = asyncio.run(late()) and all(flaky() == "done" for _ in range(40)) and flaky() == "done"
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
