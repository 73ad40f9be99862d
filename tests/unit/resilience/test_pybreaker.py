"""pybreaker's API over an engine that holds no lock during a call (CB-4 to CB-8, AS-1 to AS-3)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pybreaker
import pytest

import backstay.resilience.pybreaker as facade
from backstay.errors import BreakerOpen, Misuse, Rejected
from backstay.resilience.fallback import Fallback
from backstay.resilience.pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerListener,
    CircuitBreakerStorage,
    CircuitMemoryStorage,
)
from backstay.testing import ManualClock, measured

WAYS = ("call", "decorator", "calling", "async decorator", "acall", "call_async", "generator", "async generator")


class Failed(Exception):
    pass


def go(breaker: CircuitBreaker, way: str, error: BaseException | None = None) -> Any:
    """Make one call in one of the ways that there are."""

    def plain(value: int = 7) -> int:
        if error is not None:
            raise error
        return value

    async def asynchronous(value: int = 7) -> int:
        await asyncio.sleep(0)
        return plain(value)

    def items(value: int = 7) -> Iterator[int]:
        yield plain(value)

    async def async_items(value: int = 7) -> AsyncIterator[int]:
        yield plain(value)

    async def collected() -> list[int]:
        return [item async for item in breaker(async_items)()]

    async def started() -> Any:
        return await breaker.call_async(asynchronous)

    if way == "call":
        return breaker.call(plain)
    if way == "decorator":
        return breaker(plain)()
    if way == "calling":
        with breaker.calling():
            return plain()
    if way == "generator":
        (item,) = breaker(items)()
        return item
    if way == "async generator":
        return asyncio.run(collected())[0]
    if way == "call_async":
        return asyncio.run(started())
    return asyncio.run(breaker.acall(asynchronous) if way == "acall" else breaker(asynchronous)())


def trip(breaker: CircuitBreaker, way: str = "call") -> None:
    for _ in range(breaker.fail_max):
        with contextlib.suppress(Failed, CircuitBreakerError):
            go(breaker, way, Failed())


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_failures_in_a_row_open_it_and_a_success_starts_anew(way: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=3, reset_timeout=10, clock=clock)
    for expected in (1, 2):
        with pytest.raises(Failed):
            go(breaker, way, Failed())
        assert breaker.fail_counter == expected
    assert go(breaker, way) == 7
    assert breaker.fail_counter == 0
    for _ in range(2):
        with pytest.raises(Failed):
            go(breaker, way, Failed())
    last = Failed("the last")
    with pytest.raises(CircuitBreakerError) as tripped:
        go(breaker, way, last)
    assert tripped.value.__cause__ is last
    assert (breaker.current_state, breaker.fail_counter) == (STATE_OPEN, 3)
    ran: list[int] = []
    with pytest.raises(CircuitBreakerError) as refused:
        breaker.call(ran.append, 1)
    assert ran == []
    assert refused.value.retry_after == pytest.approx(10)


def test_the_opening_error_may_be_the_calls_own(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, throw_new_error_on_trip=False, clock=clock)
    with pytest.raises(Failed):
        go(breaker, "call", Failed())
    assert breaker.current_state == STATE_OPEN


def test_after_the_timeout_a_good_trial_call_closes_it(way: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=10, clock=clock)
    trip(breaker)
    clock.advance(9.999)
    with pytest.raises(CircuitBreakerError):
        go(breaker, way)
    clock.advance(0.001)
    assert go(breaker, way) == 7
    assert (breaker.current_state, breaker.fail_counter, breaker.success_counter) == (STATE_CLOSED, 0, 0)


def test_after_the_timeout_a_bad_trial_call_opens_it_again(way: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=3, reset_timeout=10, clock=clock)
    trip(breaker)
    clock.advance(10)
    with pytest.raises(CircuitBreakerError):
        go(breaker, way, Failed())
    assert (breaker.current_state, breaker.fail_counter) == (STATE_OPEN, 4)
    clock.advance(9)
    with pytest.raises(CircuitBreakerError):
        go(breaker, way)


def test_the_success_threshold_asks_for_more(way: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, success_threshold=3, clock=clock)
    trip(breaker)
    clock.advance(1)
    for good in (1, 2):
        go(breaker, way)
        assert (breaker.current_state, breaker.success_counter) == (STATE_HALF_OPEN, good)
    with pytest.raises(CircuitBreakerError):
        go(breaker, way, Failed())
    assert (breaker.current_state, breaker.success_counter) == (STATE_OPEN, 0)
    clock.advance(1)
    for _ in range(3):
        go(breaker, way)
    assert breaker.current_state == STATE_CLOSED


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), asyncio.CancelledError()])
def test_AS3_cancellation_and_exit_do_not_trip_and_give_the_trial_call_back(
    error: BaseException, clock: ManualClock
) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, clock=clock)
    with pytest.raises(type(error)):
        go(breaker, "call", error)
    assert (breaker.current_state, breaker.fail_counter) == (STATE_CLOSED, 0)
    trip(breaker)
    clock.advance(1)
    with pytest.raises(type(error)):
        go(breaker, "call", error)
    assert breaker.current_state == STATE_HALF_OPEN
    assert go(breaker, "call") == 7


def test_AS3_a_cancelled_task_gives_the_trial_call_back(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, clock=clock)
    trip(breaker)
    clock.advance(1)

    async def main() -> None:
        task = asyncio.ensure_future(breaker(asyncio.Event().wait)())
        await asyncio.sleep(0)
        with pytest.raises(CircuitBreakerError, match="trial call is under way"):
            await breaker.acall(asyncio.sleep, 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await breaker.acall(asyncio.sleep, 0)

    asyncio.run(main())
    assert breaker.current_state == STATE_CLOSED


def test_CB4_of_fifty_threads_one_tries(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, clock=clock)
    trip(breaker)
    clock.advance(1)
    reached, outcomes = list[int](), list[str]()
    release, ready = threading.Event(), threading.Barrier(50)

    def work() -> None:
        reached.append(1)
        assert release.wait(5)

    def one() -> None:
        ready.wait(5)
        try:
            breaker.call(work)
            outcomes.append("good")
        except CircuitBreakerError:
            outcomes.append("refused")
            if outcomes.count("refused") == 49:
                release.set()

    threads = [threading.Thread(target=one) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (reached, sorted(outcomes)) == ([1], ["good"] + ["refused"] * 49)
    assert breaker.current_state == STATE_CLOSED


def test_CB4_of_a_thousand_tasks_one_tries(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, clock=clock)
    trip(breaker)
    clock.advance(1)
    reached: list[int] = []

    @breaker
    async def work() -> None:
        reached.append(1)
        await asyncio.sleep(0)

    async def main() -> list[Any]:
        return await asyncio.gather(*(work() for _ in range(1000)), return_exceptions=True)

    ended = asyncio.run(main())
    assert len(reached) == 1
    assert sum(isinstance(each, CircuitBreakerError) for each in ended) == 999


def test_CB5_a_trial_call_that_never_ends_makes_room_after_its_lease(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, probe_lease=30, clock=clock)
    trip(breaker)
    clock.advance(1)
    hanging = breaker.calling()
    hanging.__enter__()
    clock.advance(29.9)
    with pytest.raises(CircuitBreakerError):
        go(breaker, "call")
    clock.advance(0.1)
    with pytest.raises(CircuitBreakerError):
        go(breaker, "call", Failed())  # a new trial call, which fails
    assert breaker.current_state == STATE_OPEN
    hanging.__exit__(None, None, None)  # too late to say anything
    assert breaker.current_state == STATE_OPEN


@pytest.mark.parametrize("end", ["close", "collected"])
def test_CB5_a_stream_that_is_left_gives_the_trial_call_back(end: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, clock=clock)
    trip(breaker)
    clock.advance(1)

    @breaker
    def items() -> Iterator[int]:
        yield 1
        yield 2

    never_iterated = items()
    stream = items()
    assert next(stream) == 1
    if end == "close":
        stream.close()  # type: ignore[attr-defined]  # it is a generator
    del stream
    gc.collect()
    assert go(breaker, "call") == 7
    assert list(never_iterated) == [1, 2]


def test_CB6_results_of_calls_that_began_before_a_transition_count_nowhere(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, clock=clock)
    early_good, early_bad = breaker.calling(), breaker.calling()
    early_good.__enter__()
    early_bad.__enter__()
    trip(breaker)
    clock.advance(1)
    trial = breaker.calling()
    trial.__enter__()
    early_good.__exit__(None, None, None)
    assert (breaker.current_state, breaker.fail_counter, breaker.success_counter) == (STATE_HALF_OPEN, 1, 0)
    assert not early_bad.__exit__(Failed, Failed(), None)
    assert (breaker.current_state, breaker.fail_counter) == (STATE_HALF_OPEN, 1)
    trial.__exit__(None, None, None)
    assert breaker.current_state == STATE_CLOSED


@pytest.mark.parametrize("listeners", [[], [CircuitBreakerListener()]])
def test_CB6_a_good_call_of_before_makes_no_failures_of_now_forgotten(listeners: Any, clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=3, reset_timeout=1, listeners=listeners, clock=clock)

    def opened_meanwhile() -> None:
        breaker.open(), breaker.close()
        with contextlib.suppress(Failed):
            go(breaker, "call", Failed())

    breaker(opened_meanwhile)()
    assert breaker.fail_counter == 1
    breaker.call(opened_meanwhile)
    assert breaker.fail_counter == 1


def test_CB8_no_lock_is_held_over_a_call() -> None:
    together = threading.Barrier(8)
    breaker = CircuitBreaker(listeners=[CircuitBreakerListener()])
    guarded = breaker(lambda: together.wait(5))  # passes only if all eight are inside at once
    with ThreadPoolExecutor(8) as threads:
        assert sorted(job.result() for job in [threads.submit(guarded) for _ in range(8)]) == list(range(8))


class Recording(CircuitBreakerListener):
    def __init__(self) -> None:
        self.log: list[Any] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.log.append(("before", func.__name__, args, kwargs))

    def success(self, cb: Any) -> None:
        self.log.append("success")

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.log.append(("failure", type(exc)))

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.log.append((old_state.name, new_state.name))


def test_listeners_hear_what_pybreakers_hear(clock: ManualClock) -> None:
    ours, theirs = Recording(), Recording()

    def bad(*args: int, event: str = "") -> None:
        raise Failed

    def good(*args: int, event: str = "") -> int:
        return 1

    fresh = CircuitBreaker(fail_max=2, reset_timeout=0, listeners=[ours], clock=clock)
    peer = pybreaker.CircuitBreaker(fail_max=2, reset_timeout=0, listeners=[theirs])
    breaker: Any
    for breaker in (fresh, peer):
        for func in (good, bad, bad, good, good, bad):
            with contextlib.suppress(Failed, pybreaker.CircuitBreakerError):
                breaker.call(func, 1, event="kept apart from the listener's own names")
        breaker.open(), breaker.half_open(), breaker.close()
    assert ours.log == theirs.log
    assert ("half-open", "closed") in ours.log


def test_CB8_a_raising_listener_changes_nothing_and_the_others_are_told(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(CircuitBreakerListener):
        def before_call(self, *args: Any, **kwargs: Any) -> None:
            raise LookupError

        success = failure = state_change = before_call

    after = Recording()
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, listeners=[Raising(), after], clock=clock)
    with caplog.at_level(logging.ERROR, "backstay.resilience"):
        assert go(breaker, "call") == 7
        with pytest.raises(CircuitBreakerError):
            go(breaker, "call", Failed())
    assert breaker.current_state == STATE_OPEN
    assert after.log[-1] == ("closed", "open")
    assert len(caplog.records) == 5


def test_listeners_never_run_side_by_side() -> None:
    class Counting(CircuitBreakerListener):
        inside = most = total = 0

        def success(self, cb: Any) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            seen = self.total
            threading.Event().wait(0.0001)  # lets the others run
            self.total = seen + 1
            self.inside -= 1

    counting = Counting()
    guarded = CircuitBreaker(listeners=[counting])(lambda: None)
    with ThreadPoolExecutor(4) as threads:
        for job in [threads.submit(lambda: [guarded() for _ in range(50)]) for _ in range(4)]:
            job.result()
    assert (counting.total, counting.most) == (200, 1)


def test_failures_of_many_threads_are_counted_once_each() -> None:
    breaker = CircuitBreaker(fail_max=400)

    @breaker
    def bad() -> None:
        raise Failed

    def many() -> None:
        for _ in range(150):
            with contextlib.suppress(Failed, CircuitBreakerError):
                bad()

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (breaker.fail_counter, breaker.current_state) == (400, STATE_OPEN)


def test_excluded_errors_count_as_good_calls_as_in_pybreaker(way: str) -> None:
    breaker = CircuitBreaker(fail_max=3, exclude=[LookupError, lambda error: "business" in str(error)])
    for excluded in (KeyError("a subclass"), Failed("business")):
        with pytest.raises(Failed):
            go(breaker, way, Failed("real"))
        assert breaker.fail_counter == 1
        with pytest.raises(type(excluded)):
            go(breaker, way, excluded)
        assert breaker.fail_counter == 0


def test_an_exclusion_that_cannot_judge_hides_no_error(caplog: pytest.LogCaptureFixture) -> None:
    breaker = CircuitBreaker(exclude=[lambda error: error.code == 404])
    with pytest.raises(Failed):
        go(breaker, "call", Failed())
    assert breaker.fail_counter == 1
    assert "could not judge Failed" in caplog.text


def test_setters_and_lists_are_pybreakers() -> None:
    breaker, listener = CircuitBreaker(name="first"), CircuitBreakerListener()
    assert (breaker.fail_max, breaker.reset_timeout, breaker.success_threshold) == (5, 60, 1)
    breaker.fail_max, breaker.reset_timeout, breaker.success_threshold, breaker.name = 9, 3, 2, "second"
    assert (breaker.fail_max, breaker.reset_timeout, breaker.success_threshold, breaker.name) == (9, 3, 2, "second")
    breaker.add_listeners(listener)
    assert breaker.listeners == (listener,)
    breaker.remove_listener(listener)
    assert breaker.listeners == ()
    breaker.add_excluded_exceptions(KeyError, Failed)
    breaker.remove_excluded_exception(KeyError)
    assert breaker.excluded_exceptions == (Failed,)


def test_what_is_new_is_what_pybreaker_knows() -> None:
    assert isinstance(CircuitBreaker(), pybreaker.CircuitBreaker)
    assert issubclass(CircuitBreakerError, pybreaker.CircuitBreakerError)
    assert issubclass(CircuitBreakerError, BreakerOpen)
    assert isinstance(CircuitBreaker().state, pybreaker.CircuitClosedState)
    assert [
        type(CircuitBreaker(state_storage=CircuitMemoryStorage(state)).state).__base__
        for state in (STATE_OPEN, STATE_HALF_OPEN)
    ] == [pybreaker.CircuitOpenState, pybreaker.CircuitHalfOpenState]
    with pytest.raises(ValueError, match="valid states: closed, open, half-open"):
        CircuitBreaker().state = "ajar"
    theirs, ours = inspect.signature(pybreaker.CircuitBreaker), inspect.signature(CircuitBreaker)
    assert [*ours.parameters][: len(theirs.parameters)] == [*theirs.parameters]
    for name, parameter in theirs.parameters.items():
        assert ours.parameters[name].default == parameter.default


def test_a_refusal_is_one_for_every_other_policy(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, clock=clock)
    trip(breaker)
    assert Fallback("catalogue", answer="static")(breaker(lambda: "real"))() == "static"
    with pytest.raises(Rejected):
        go(breaker, "call")


def test_the_state_may_be_changed_by_hand(clock: ManualClock) -> None:
    breaker = CircuitBreaker(clock=clock)
    assert breaker.open() is True
    with pytest.raises(CircuitBreakerError):
        go(breaker, "call")
    breaker.half_open()
    assert go(breaker, "call") == 7
    assert breaker.current_state == STATE_CLOSED


def test_the_wall_clock_changes_nothing_that_this_process_has_opened(clock: ManualClock) -> None:
    storage = CircuitMemoryStorage(STATE_CLOSED)
    breaker = CircuitBreaker(fail_max=1, reset_timeout=3600, state_storage=storage, clock=clock)
    trip(breaker)
    clock.advance(3599)
    with pytest.raises(CircuitBreakerError):
        go(breaker, "call")
    clock.advance(1)  # the wall clock says that it was opened a moment ago
    assert go(breaker, "call") == 7


@pytest.mark.parametrize("hours", [-24, 0, 24])
def test_what_another_has_opened_is_timed_from_when_it_was_seen(hours: int, clock: ManualClock) -> None:
    storage = CircuitMemoryStorage(STATE_OPEN)
    storage.opened_at = datetime.now(UTC) + timedelta(hours=hours)  # as a clock that is wrong would put it
    breaker = CircuitBreaker(reset_timeout=60, state_storage=storage, clock=clock)
    clock.advance(1000)
    with pytest.raises(CircuitBreakerError) as refused:
        go(breaker, "call")
    assert refused.value.retry_after == 60
    clock.advance(59)
    with pytest.raises(CircuitBreakerError):
        go(breaker, "call")
    clock.advance(1)
    assert go(breaker, "call") == 7


def test_breakers_that_share_a_storage_see_each_others_state(clock: ManualClock) -> None:
    storage = CircuitMemoryStorage(STATE_CLOSED)
    first = CircuitBreaker(fail_max=1, state_storage=storage, clock=clock)
    second = CircuitBreaker(fail_max=1, state_storage=storage, clock=clock)
    trip(first)
    for way in ("call", "decorator", "async decorator"):
        with pytest.raises(CircuitBreakerError):
            go(second, way)


class Own(CircuitBreakerStorage):
    """A storage as users write them, without pybreaker's memory one."""

    def __init__(self) -> None:
        super().__init__("own")
        self.inner = CircuitMemoryStorage(STATE_CLOSED)
        self.threads: set[int] = set()

    def __getattribute__(self, name: str) -> Any:
        if name in (
            "state",
            "counter",
            "increment_counter",
            "reset_counter",
            "opened_at",
            "success_counter",
            "increment_success_counter",
            "reset_success_counter",
        ):
            self.threads.add(threading.get_ident())
            return getattr(self.inner, name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("state", "opened_at"):
            setattr(self.inner, name, value)
        else:
            super().__setattr__(name, value)


def test_a_storage_of_ones_own_works_in_every_way(way: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=2, reset_timeout=1, state_storage=Own(), clock=clock)  # type: ignore[abstract]
    trip(breaker, way)
    assert breaker.current_state == STATE_OPEN
    clock.advance(1)
    assert go(breaker, way) == 7
    assert breaker.current_state == STATE_CLOSED


def test_AS1_a_storage_that_may_be_remote_is_never_asked_on_the_loop() -> None:
    storage = Own()  # type: ignore[abstract]
    breaker = CircuitBreaker(fail_max=2, state_storage=storage)
    storage.threads.clear()

    async def main() -> None:
        await breaker.acall(asyncio.sleep, 0)

        @breaker
        async def bad() -> None:
            raise Failed

        with pytest.raises(Failed):
            await bad()

    asyncio.run(main())
    assert storage.threads
    assert threading.get_ident() not in storage.threads


def test_AS2_the_face_of_what_is_decorated_stays() -> None:
    breaker = CircuitBreaker()

    @breaker
    async def read(product_id: int) -> int:
        """Read."""
        return product_id

    @breaker()
    def write(product_id: int) -> int:
        return product_id

    assert inspect.iscoroutinefunction(read)
    assert (read.__name__, read.__doc__, str(inspect.signature(read))) == (
        "read",
        "Read.",
        "(product_id: 'int') -> 'int'",
    )
    assert write(7) == 7
    with pytest.raises(Misuse):
        breaker(staticmethod(write))


def test_AS2_a_plain_function_that_returns_a_coroutine_is_guarded_until_it_is_awaited() -> None:
    breaker = CircuitBreaker(fail_max=2)

    async def bad() -> None:
        raise Failed

    def returns_a_coroutine(make: Any) -> Any:
        return make()

    async def main() -> None:
        several: list[Any] = [lambda: breaker.call(bad), breaker(functools.partial(returns_a_coroutine, bad))]
        for guarded in several:
            with pytest.raises((Failed, CircuitBreakerError)):
                await guarded()

    asyncio.run(main())
    assert breaker.current_state == STATE_OPEN


def test_call_async_starts_at_once_and_needs_no_tornado() -> None:
    breaker, started = CircuitBreaker(fail_max=1), list[int]()

    async def work() -> int:
        started.append(1)
        return 7

    async def main() -> None:
        future = breaker.call_async(work)
        await asyncio.sleep(0)
        assert started == [1]
        assert await future == 7
        with pytest.raises(CircuitBreakerError):
            await breaker.call_async(lambda: 1 / 0)  # it fails before there is anything to await

    asyncio.run(main())


def test_acall_refuses_streams_before_anything_runs() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def numbers_async() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        breaker: Any = CircuitBreaker(fail_max=1)
        with pytest.raises(TypeError, match="acall does not support generators"):
            await breaker.acall(numbers)
        with pytest.raises(TypeError, match="async generators; decorate"):
            await breaker.acall(numbers_async)
        assert (breaker.fail_counter, breaker.current_state) == (0, "closed")

    asyncio.run(main())


def test_tornados_keyword_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facade, "HAS_TORNADO_SUPPORT", False)
    with pytest.raises(ImportError, match="tornado"):
        CircuitBreaker()(lambda: 1, __pybreaker_call_async=True)  # type: ignore[call-overload]  # untyped there


def test_golden_signals_every_call_is_counted_under_one_result(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, name="signals", exclude=[KeyError], clock=clock)
    with measured() as seen:
        go(breaker, "call"), go(breaker, "decorator"), go(breaker, "calling")
        for error in (KeyError(), Failed(), KeyboardInterrupt()):
            with contextlib.suppress(KeyError, CircuitBreakerError, KeyboardInterrupt):
                go(breaker, "call", error)
        clock.advance(1)
        with contextlib.suppress(KeyboardInterrupt):
            go(breaker, "call", KeyboardInterrupt())
    counts = {
        result: seen.count("circuit_breaker.calls", policy_name="signals", result=result)
        for result in ("success", "ignored", "failure", "not_permitted", "neutral")
    }
    assert counts == {"success": 3, "ignored": 1, "failure": 1, "not_permitted": 1, "neutral": 1}
    moves = {"from": ("closed", "open"), "to": ("open", "half_open"), "cause": ("consecutive", "wait_over")}
    for old, new, cause in zip(*moves.values(), strict=True):
        assert seen.count("circuit_breaker.transitions", policy_name="signals", from_=old, to=new, cause=cause) == 1


def test_the_child_of_a_fork_has_a_lock_of_its_own(clock: ManualClock) -> None:
    breaker = CircuitBreaker(fail_max=1, reset_timeout=1, clock=clock)
    trip(breaker)
    clock.advance(1)
    breaker.calling().__enter__()
    held = threading.Thread(target=breaker._lock.acquire)
    held.start()
    held.join()
    breaker.renew()  # what the hook does in the child, where the thread that holds the lock does not exist
    assert go(breaker, "call") == 7


def test_a_call_costs_no_lock_and_no_storage_when_all_is_well() -> None:
    breaker = CircuitBreaker()
    breaker._lock = None  # type: ignore[assignment]  # any use of it would raise
    guarded = breaker(lambda: 7)
    assert [guarded(), breaker.call(lambda: 7)] == [7, 7]
