"""Half open: permits, leases and late results (CB-4, CB-5, CB-6, CB-10)."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from backstay.blocking import drive
from backstay.errors import BulkheadFull
from backstay.resilience.circuit_breaker import CircuitBreaker, CircuitOpen, State
from backstay.testing import ManualClock
from unit.resilience.breaker_ways import Down, Way, bad, by_coroutine, by_function, every_way, good, run


def probing(clock: ManualClock, **options: Any) -> CircuitBreaker:
    """Return a breaker whose wait is over."""
    breaker = CircuitBreaker(
        "payments", **{"minimum_calls": 1, "open_for": 1, "open_jitter": 0, "probes": 3, "clock": clock, **options}
    )
    breaker.open()
    clock.advance(1)
    return breaker


# -- CB-4: at most so many, and the decision


@every_way
@pytest.mark.parametrize(
    ("acts", "ends", "state"),
    [
        ("++", "++", State.CLOSED),  # the third can make it 1 of 3, which is below a half
        ("-+-", "-+-", State.OPEN),
        ("--", "--", State.OPEN),  # 2 of 3 whatever the third does
        ("+-+", "+-+", State.CLOSED),
        ("+-", "+-", State.HALF_OPEN),
    ],
)
def test_CB4_decides_as_soon_as_the_result_cannot_change(way: Way, acts: str, ends: str, state: State) -> None:
    breaker = probing(ManualClock())
    assert run(way(breaker), acts) == ends
    assert breaker.state is state


def test_CB4_slow_probes_open_again() -> None:
    clock = ManualClock()
    breaker = probing(clock, slow_rate=0.5, slow_after=1, probes=2)
    by_function(breaker)(lambda: clock.advance(1))
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("crowd", [50, 1000])
@pytest.mark.parametrize("probes", [1, 3])
def test_CB4_a_crowd_of_threads_lets_exactly_the_permitted_through(crowd: int, probes: int) -> None:
    breaker = probing(ManualClock(), probes=probes)
    began, end = threading.Semaphore(0), threading.Event()
    reached: list[int] = []
    refused: list[CircuitOpen] = []

    @breaker
    def backend(number: int) -> None:
        reached.append(number)
        began.release()
        end.wait(30)

    def caller(number: int) -> None:
        try:
            backend(number)
        except CircuitOpen as refusal:
            refused.append(refusal)
            began.release()

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(crowd)]
    for thread in threads:
        thread.start()
    for _ in range(crowd):
        assert began.acquire(timeout=30)
    end.set()
    for thread in threads:
        thread.join()
    assert (len(reached), len(refused)) == (probes, crowd - probes)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("crowd", [50, 1000])
@pytest.mark.parametrize("probes", [1, 3])
def test_CB4_a_crowd_of_tasks_lets_exactly_the_permitted_through(crowd: int, probes: int) -> None:
    breaker = probing(ManualClock(), probes=probes)
    reached: list[int] = []

    async def main() -> list[BaseException | None]:
        end = asyncio.Event()

        @breaker
        async def backend(number: int) -> None:
            reached.append(number)
            await end.wait()

        tasks = [asyncio.create_task(backend(number)) for number in range(crowd)]
        for _ in range(3):
            await asyncio.sleep(0)
        end.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ends = asyncio.run(main())
    assert len(reached) == probes
    assert sum(isinstance(each, CircuitOpen) for each in ends) == crowd - probes
    assert breaker.state is State.CLOSED


def test_CB4_done_probes_keep_their_permits() -> None:
    breaker = probing(ManualClock(), probes=3, failure_rate=0.5)
    call = by_function(breaker)
    assert run(call, "+-") == "+-"
    held = breaker.circuit.admit()
    assert run(call, "+") == "x"  # two are done and one is in flight
    breaker.circuit.settle(held, None)
    assert breaker.state is State.CLOSED


# -- CB-5: a permit is a lease


def exhausted(breaker: CircuitBreaker) -> bool:
    """Return whether no permit of a breaker of one probe is left."""
    try:
        breaker.circuit.settle(breaker.circuit.admit(), asyncio.CancelledError())
    except CircuitOpen:
        return True
    return False


@every_way
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, BulkheadFull, RecursionError])
def test_CB5_resilience4j_544_a_probe_that_says_nothing_gives_its_permit_back(way: Way, kind: Any) -> None:
    """An ignored, cancelled or inwardly refused probe kept its permit there, and the breaker half open for ever."""
    breaker = probing(ManualClock(), probes=1, ignored=RecursionError)

    def leave() -> None:
        raise kind

    call = way(breaker)
    for _ in range(5):
        with pytest.raises(kind):
            call(leave)
    assert breaker.state is State.HALF_OPEN
    assert run(call, "+") == "+"
    assert breaker.state is State.CLOSED


def test_CB5_Sentinel_1638_a_call_blocked_by_a_later_rule_gives_its_permit_back() -> None:
    """The permit was taken, another rule refused the call, and nothing ever came back: "fatal"."""
    breaker = probing(ManualClock(), probes=1)

    @breaker
    def blocked() -> None:
        raise BulkheadFull("full")

    for _ in range(10):
        with pytest.raises(BulkheadFull):
            blocked()
    assert not exhausted(breaker)


def test_CB5_resilience4j_903_a_cancelled_task_gives_its_permit_back() -> None:
    breaker = probing(ManualClock(), probes=1)

    @breaker
    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        for _ in range(3):
            task = asyncio.create_task(hang())
            await asyncio.sleep(0)
            assert exhausted(breaker)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not exhausted(breaker)

    asyncio.run(main())
    assert breaker.state is State.HALF_OPEN


def test_CB5_resilience4j_935_a_call_that_hangs_loses_its_permit_when_the_lease_runs_out() -> None:
    clock = ManualClock()
    breaker = probing(clock, probes=1, probe_lease=60)
    hanging = breaker.circuit.admit()
    clock.advance(59.75)
    assert exhausted(breaker)
    clock.advance(0.25)
    assert run(by_function(breaker), "+") == "+"
    assert breaker.state is State.CLOSED
    breaker.circuit.settle(hanging, Down())  # it comes back at last
    assert (breaker.state, breaker.snapshot().calls) == (State.CLOSED, 0)


def test_CB5_a_result_after_its_lease_is_void_although_the_round_goes_on() -> None:
    clock = ManualClock()
    breaker = probing(clock, probes=2, failure_rate=1.0, probe_lease=10)
    late = breaker.circuit.admit()
    clock.advance(10)
    second = breaker.circuit.admit()  # makes room
    breaker.circuit.admit()
    breaker.circuit.settle(late, Down())
    assert (breaker.snapshot().calls, breaker.snapshot().probes_in_flight) == (0, 2)
    breaker.circuit.settle(second, None)
    assert breaker.state is State.CLOSED


def test_CB5_abandoned_streams_give_their_permits_back() -> None:
    breaker = probing(ManualClock(), probes=1)

    @breaker
    def numbers() -> Generator[int]:
        yield 1
        yield 2

    @breaker
    async def later() -> AsyncGenerator[int]:
        yield 1
        yield 2

    unread = numbers()
    assert not exhausted(breaker)  # nothing is taken before the first item
    del unread
    stream = numbers()
    assert next(stream) == 1
    assert exhausted(breaker)
    stream.close()
    assert not exhausted(breaker)
    stream = numbers()
    next(stream)
    del stream
    gc.collect()
    assert not exhausted(breaker)

    async def main() -> None:
        stream = later()
        assert await anext(stream) == 1
        assert exhausted(breaker)
        await stream.aclose()
        assert not exhausted(breaker)

    asyncio.run(main())
    assert breaker.state is State.HALF_OPEN


def test_CB5_a_finaliser_may_settle_while_its_own_thread_holds_the_lock() -> None:
    breaker = probing(ManualClock(), probes=1)

    @breaker
    def numbers() -> Generator[int]:
        try:
            yield 1
        finally:
            raise Down  # what a bad clean-up does when the stream is dropped

    stream = numbers()
    next(stream)
    with breaker.circuit._lock, pytest.raises(Down):
        stream.close()
    assert breaker.state is State.OPEN


def test_CB5_a_forked_child_owes_no_result_for_the_probes_of_its_parent() -> None:
    breaker = probing(ManualClock(), probes=1)
    with breaker.admission():
        child = os.fork()
        if child == 0:
            os._exit(int(exhausted(breaker)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert exhausted(breaker)


# -- CB-6: results of an earlier episode


def to_closed(breaker: CircuitBreaker) -> None:
    breaker.close()


def to_open(breaker: CircuitBreaker) -> None:
    breaker.open()


@pytest.mark.parametrize("way", [by_function, by_coroutine])
@pytest.mark.parametrize("act", [good, bad])
@pytest.mark.parametrize(
    "window", [{"consecutive": 1}, {"minimum_calls": 1}, {"minimum_calls": 1, "last_calls": 5},
               {"minimum_calls": 1, "slow_rate": 1.0, "slow_after": 1}],
)  # fmt: skip
@pytest.mark.parametrize("before", [CircuitBreaker.close, CircuitBreaker.half_open])
@pytest.mark.parametrize("after", [CircuitBreaker.close, CircuitBreaker.half_open, CircuitBreaker.open])
def test_CB6_a_late_result_of_an_earlier_episode_counts_nowhere(
    way: Way, act: Callable[[], Any], window: dict[str, Any], before: Any, after: Any
) -> None:
    breaker = CircuitBreaker("payments", clock=ManualClock(), **window)
    before(breaker)

    def across() -> Any:
        to_open(breaker)
        after(breaker)
        return act()

    call = way(breaker)
    try:
        call(across)
    except Down:
        assert act is bad
    now = breaker.snapshot()
    assert now.calls == now.failures == 0
    expected = {CircuitBreaker.close: State.CLOSED, CircuitBreaker.half_open: State.HALF_OPEN}
    assert now.state is expected.get(after, State.OPEN)


def test_CB6_a_late_success_does_not_close_the_row_of_the_new_episode() -> None:
    breaker = CircuitBreaker("payments", consecutive=3, clock=ManualClock())
    call = by_function(breaker)

    def slow_success() -> str:
        breaker.open()
        breaker.close()
        run(call, "--")
        return "well"

    assert call(slow_success) == "well"
    assert breaker.snapshot().failures == 2


# -- CB-10: streams and blocks are recorded when they end


def test_CB10_a_stream_is_recorded_when_it_ends_and_not_when_it_is_made() -> None:
    breaker = CircuitBreaker("payments", minimum_calls=100, clock=ManualClock())

    @breaker
    def numbers(fail: bool) -> Generator[int, str, str]:
        assert (yield 1) == "sent"
        yield 2
        if fail:
            raise Down
        return "returned"

    stream = numbers(False)
    assert (next(stream), stream.send("sent")) == (1, 2)
    assert breaker.snapshot().calls == 0
    with pytest.raises(StopIteration) as end:
        next(stream)
    assert end.value.value == "returned"
    assert (breaker.snapshot().calls, breaker.snapshot().failures) == (1, 0)
    failing = numbers(True)
    next(failing)
    failing.send("sent")
    with pytest.raises(Down):
        next(failing)
    assert (breaker.snapshot().calls, breaker.snapshot().failures) == (2, 1)


def test_CB10_an_async_stream_is_recorded_when_it_ends() -> None:
    breaker = CircuitBreaker("payments", minimum_calls=100, clock=ManualClock())

    @breaker
    async def numbers(fail: bool) -> AsyncGenerator[int]:
        yield 1
        assert breaker.snapshot().calls == int(fail)
        if fail:
            raise Down

    async def main() -> None:
        assert [each async for each in numbers(False)] == [1]
        with pytest.raises(Down):
            async for _ in numbers(True):
                pass

    drive(main())
    assert (breaker.snapshot().calls, breaker.snapshot().failures) == (2, 1)


def test_CB10_a_block_is_recorded_with_the_error_that_left_it() -> None:
    breaker = CircuitBreaker("payments", consecutive=2, clock=ManualClock())
    for _ in range(2):
        with pytest.raises(Down), breaker.admission():
            raise Down
    with pytest.raises(CircuitOpen), breaker.admission():
        pytest.fail("an open breaker let a block in")
