"""The contract of the runtime port: what protocols may rely on, whichever runtime runs them."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from backstay.runtime import Job, Runtime, Signal

__all__ = ["RuntimeContract"]

T = TypeVar("T")

_TICK = 0.01  # seconds; real runtimes wait this long, since waiting is what is tested
_LONG = 5.0  # never waited for by a runtime that keeps its promises

_who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class RuntimeContract:
    """Subclass it, and give `run`."""

    def run(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        """Run `work(runtime)` to its end on a fresh runtime and return its result."""
        raise NotImplementedError

    # -- time and chance

    def test_sleep_lets_the_time_pass_and_the_clock_never_goes_back(self) -> None:
        async def work(runtime: Runtime) -> list[float]:
            readings = [runtime.now()]
            for seconds in (_TICK, 0.0, -1.0):
                await runtime.sleep(seconds)
                readings.append(runtime.now())
            return readings

        first, slept, *rest = self.run(work)
        assert slept - first >= _TICK * 0.9
        assert sorted([slept, *rest]) == [slept, *rest]
        assert rest[-1] - slept < _LONG

    def test_uniform_stays_between_its_bounds_and_varies(self) -> None:
        async def work(runtime: Runtime) -> list[float]:
            return [runtime.uniform(2.0, 3.0) for _ in range(50)]

        drawn = self.run(work)
        assert all(2.0 <= value <= 3.0 for value in drawn)
        assert len(set(drawn)) > 1

    # -- gather

    def test_gather_returns_results_in_the_order_given_with_errors_in_place(self) -> None:
        async def piece(runtime: Runtime, number: int) -> int:
            await runtime.sleep(_TICK * (3 - number))
            if number == 1:
                raise LookupError("one")
            return number

        async def work(runtime: Runtime) -> list[int | Exception]:
            return await runtime.gather(lambda: piece(runtime, 0), lambda: piece(runtime, 1), lambda: piece(runtime, 2))

        first, second, third = self.run(work)
        assert (first, third) == (0, 2)
        assert isinstance(second, LookupError)

    def test_gather_of_one_and_of_nothing(self) -> None:
        async def fail() -> int:
            raise LookupError("alone")

        async def work(runtime: Runtime) -> tuple[list[int | Exception], list[int | Exception]]:
            return await runtime.gather(), await runtime.gather(fail)

        nothing, one = self.run(work)
        assert nothing == []
        assert len(one) == 1
        assert isinstance(one[0], LookupError)

    def test_gather_runs_its_pieces_side_by_side(self) -> None:
        async def meet(mine: Signal, other: Signal) -> bool:
            mine.set()
            return await other.wait(_LONG)

        async def work(runtime: Runtime) -> list[bool | Exception]:
            one, two = runtime.signal(), runtime.signal()
            return await runtime.gather(lambda: meet(one, two), lambda: meet(two, one))

        assert self.run(work) == [True, True]

    def test_gather_gives_its_pieces_the_context_of_the_caller(self) -> None:
        async def look() -> str:
            return _who.get()

        async def work(runtime: Runtime) -> list[str | Exception]:
            token = _who.set("caller")
            try:
                return await runtime.gather(look, look, look)
            finally:
                _who.reset(token)

        assert self.run(work) == ["caller"] * 3

    # -- shield

    def test_shield_returns_what_the_work_returns_and_raises_what_it_raises(self) -> None:
        async def fine(runtime: Runtime) -> int:
            await runtime.sleep(_TICK)
            return 7

        async def fail(runtime: Runtime) -> int:
            await runtime.sleep(_TICK)
            raise LookupError("shielded")

        async def work(runtime: Runtime) -> int:
            with pytest.raises(LookupError, match="shielded"):
                await runtime.shield(fail(runtime))
            return await runtime.shield(fine(runtime))

        assert self.run(work) == 7

    def test_shielded_work_ends_although_its_job_is_cancelled_again_and_again(self) -> None:
        ended: list[str] = []

        async def clean(runtime: Runtime, begun: Signal) -> None:
            begun.set()
            for _ in range(3):
                await runtime.sleep(_TICK)
            ended.append("cleaned")

        async def job(runtime: Runtime, begun: Signal) -> None:
            await runtime.shield(clean(runtime, begun))

        async def work(runtime: Runtime) -> bool:
            begun = runtime.signal()
            spawned = runtime.spawn(lambda: job(runtime, begun), name="shielding")
            assert await begun.wait(_LONG)
            for _ in range(3):
                spawned.cancel()
                await runtime.sleep(_TICK / 4)
            return await spawned.join(_LONG)

        assert self.run(work)
        assert ended == ["cleaned"]

    # -- spawn

    def test_spawned_work_runs_beside_its_caller_and_can_be_joined(self) -> None:
        async def wait(signal: Signal, seen: list[bool]) -> None:
            seen.append(await signal.wait(_LONG))

        async def work(runtime: Runtime) -> tuple[bool, bool, bool, list[bool]]:
            signal, seen = runtime.signal(), list[bool]()
            job: Job = runtime.spawn(lambda: wait(signal, seen), name="waiting")
            early = await job.join(_TICK)
            done_early = job.done
            signal.set()
            return early, done_early, await job.join(_LONG) and job.done, seen

        assert self.run(work) == (False, False, True, [True])

    def test_a_job_that_ended_can_be_joined_and_cancelled_again(self) -> None:
        async def nothing() -> None:
            return None

        async def work(runtime: Runtime) -> bool:
            job = runtime.spawn(nothing, name="nothing")
            joined = await job.join(_LONG)
            job.cancel()
            return joined and await job.join() and job.done

        assert self.run(work)

    # -- signal

    def test_signal_waits_time_out_and_a_raised_signal_does_not_wait(self) -> None:
        async def work(runtime: Runtime) -> list[bool]:
            signal = runtime.signal()
            seen = [signal.is_set(), await signal.wait(_TICK), await signal.wait(0), await signal.wait(-1)]
            signal.set()
            seen += [signal.is_set(), await signal.wait(_LONG), await signal.wait(0), await signal.wait()]
            signal.clear()
            return [*seen, signal.is_set(), await signal.wait(_TICK)]

        assert self.run(work) == [False] * 4 + [True] * 4 + [False] * 2

    def test_signal_wakes_everybody_who_waits(self) -> None:
        async def wait(signal: Signal) -> bool:
            return await signal.wait(_LONG)

        async def raise_later(runtime: Runtime, signal: Signal) -> bool:
            await runtime.sleep(_TICK)
            signal.set()
            return True

        async def work(runtime: Runtime) -> list[bool | Exception]:
            signal = runtime.signal()
            waiting = [lambda: wait(signal)] * 4
            return await runtime.gather(*waiting, lambda: raise_later(runtime, signal))

        assert self.run(work) == [True] * 5

    def test_a_signal_serves_again_after_it_was_cleared(self) -> None:
        async def answer(ask: Signal, reply: Signal) -> int:
            for _ in range(3):
                assert await ask.wait(_LONG)
                ask.clear()
                reply.set()
            return 3

        async def question(ask: Signal, reply: Signal) -> int:
            for _ in range(3):
                ask.set()
                assert await reply.wait(_LONG)
                reply.clear()
            return 3

        async def work(runtime: Runtime) -> list[int | Exception]:
            ask, reply = runtime.signal(), runtime.signal()
            return await runtime.gather(lambda: answer(ask, reply), lambda: question(ask, reply))

        assert self.run(work) == [3, 3]

    # -- mutex

    def test_a_mutex_lets_one_in_and_is_free_again_after_an_error(self) -> None:
        async def add(runtime: Runtime, guard: Any, total: list[int]) -> None:
            for _ in range(200):
                with guard:
                    seen = total[0]
                    total[0] = seen + 1
            await runtime.sleep(0)

        async def work(runtime: Runtime) -> int:
            guard, total = runtime.mutex(), [0]
            with pytest.raises(LookupError), guard:
                raise LookupError("inside")
            await runtime.gather(*[lambda: add(runtime, guard, total)] * 4)
            return total[0]

        assert self.run(work) == 800
