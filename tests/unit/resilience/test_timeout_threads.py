"""Timeouts of plain functions need a thread pool; deadlines need nothing and stop nothing (BH-4)."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from backstay.errors import Misuse
from backstay.resilience.bulkhead import ThreadPool
from backstay.resilience.policy import compose, target_of
from backstay.resilience.retry import Retry
from backstay.resilience.timeout import (
    AttemptTimeout,
    CallTimedOut,
    Deadline,
    DeadlineExceeded,
    Timeout,
    TimeoutSettings,
    deadline,
    remaining,
)
from backstay.testing import ManualClock, measured


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    made = ThreadPool("timeouts", core=2, max=4, queue=4)
    yield made
    made.close()


def test_BH4_a_plain_function_without_a_pool_is_refused_at_decoration() -> None:
    with pytest.raises(Misuse, match=r"cannot stop .*call\(\), which is no `async def`.*deadline="):

        @Timeout("slow", 1.0)
        def call() -> None: ...


def test_BH4_a_pool_frees_the_caller_on_time(pool: ThreadPool) -> None:
    release = threading.Event()
    left: list[float | None] = []

    @Timeout("slow", 0.05, pool=pool)
    def call(hang: bool) -> str:
        left.append(remaining())
        if hang:
            release.wait(30)
        return "done"

    try:
        with measured() as counts:
            assert call(hang=False) == "done"
            with pytest.raises(CallTimedOut):
                call(hang=True)
        assert counts.count("timeout.calls", timed_out=True) == 1
        assert counts.count("timeout.calls", timed_out=False) == 1
        assert all(seconds is not None and 0 < seconds <= 0.05 for seconds in left)
    finally:
        release.set()
    assert remaining() is None


def test_a_pool_further_in_waits_no_longer_than_the_deadline(pool: ThreadPool) -> None:
    release = threading.Event()

    def call() -> None:
        release.wait(30)

    bounded = compose([Timeout("slow", 0.05, pooled=True), pool], target_of(call, "slow"))
    try:
        with pytest.raises(CallTimedOut):
            bounded()
    finally:
        release.set()


def test_RT1_attempts_that_time_out_are_repeated_where_that_is_safe(pool: ThreadPool) -> None:
    release = threading.Event()
    attempts: list[int] = []

    def call() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            release.wait(30)
        return "done"

    def policies(idempotent: bool) -> list[Any]:
        retry = Retry("slow", idempotent=idempotent, first_wait=0.0, longest_wait=0.0)
        return [retry, AttemptTimeout("slow", 0.05, pooled=True), pool]

    try:
        with pytest.raises(CallTimedOut):
            compose(policies(idempotent=False), target_of(call, "slow"))()
        attempts.clear()
        assert compose(policies(idempotent=True), target_of(call, "slow"))() == "done"
    finally:
        release.set()
    assert len(attempts) == 2


def test_a_deadline_that_has_passed_refuses_before_the_pool_is_asked(pool: ThreadPool) -> None:
    called: list[int] = []
    call = Timeout("slow", 1.0, pool=pool)(lambda: called.append(1))
    with deadline(0), measured() as counts, pytest.raises(DeadlineExceeded):
        call()
    assert called == []
    assert counts.count("timeout.calls", timed_out=True) == 1


@pytest.fixture(params=["def", "async def"])
def coloured(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Callable[..., Any]]:
    def make(body: Callable[[], Any]) -> Callable[..., Any]:
        async def asynchronous() -> Any:
            await asyncio.sleep(0)
            return body()

        return body if request.param == "def" else asynchronous

    return make


def call(function: Callable[..., Any]) -> Any:
    result = function()
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def test_a_deadline_is_seen_inside_and_gone_afterwards(coloured: Any) -> None:
    clock = ManualClock()
    policy = Deadline("report", timedelta(seconds=3), clock=clock)
    assert call(policy(coloured(lambda: remaining(clock=clock)))) == 3.0
    assert remaining(clock=clock) is None
    policy.reconfigure(TimeoutSettings(seconds=1.5))
    assert call(policy(coloured(lambda: remaining(clock=clock)))) == 1.5
    assert policy.settings.seconds == 1.5


def test_a_deadline_stops_nothing_and_counts_what_overran(coloured: Any) -> None:
    clock = ManualClock()

    def slow() -> str:
        clock.advance(5.0)
        return "done"

    with measured() as counts:
        assert call(Deadline("report", 3, clock=clock)(coloured(slow))) == "done"
        assert call(Deadline("report", 3, clock=clock)(coloured(lambda: "quick"))) == "quick"
        with pytest.raises(LookupError):
            call(Deadline("report", 3, clock=clock)(coloured(lambda: dict[int, str]()[1])))
    assert counts.count("timeout.calls", timed_out=True) == 1
    assert counts.count("timeout.calls", timed_out=False) == 2


def test_the_nearer_deadline_counts_and_one_that_has_passed_refuses(coloured: Any) -> None:
    clock = ManualClock()
    called: list[float | None] = []
    function = Deadline("report", 3, clock=clock)(coloured(lambda: called.append(remaining(clock=clock))))
    with deadline(2, clock=clock):
        call(function)
    with deadline(9, clock=clock):
        call(function)
    with deadline(2, clock=clock):
        clock.advance(2)
        with pytest.raises(DeadlineExceeded, match="not begun"):
            call(function)
    assert called == [2.0, 3.0]


@pytest.mark.parametrize(
    "value", [0, -1, float("nan"), float("inf"), "2", True, None, {}, {"seconds": 0}, {"limit": 1}]
)
def test_bad_timeouts_are_refused(value: Any) -> None:
    with pytest.raises(Misuse):
        TimeoutSettings.of(value)


def test_the_forms_of_a_timeout_agree() -> None:
    wanted = TimeoutSettings(seconds=2.0)
    assert wanted == TimeoutSettings.of(2) == TimeoutSettings.of({"seconds": 2}) == TimeoutSettings.of(wanted)
    assert TimeoutSettings.of(timedelta(seconds=2)) == wanted
    for kind in (Timeout, AttemptTimeout, Deadline):
        assert kind("slow", settings=wanted).settings == wanted
        for arguments in ({}, {"seconds": 1, "settings": wanted}):
            with pytest.raises(Misuse, match="one of them"):
                kind("slow", **arguments)  # type: ignore[arg-type]
