"""Hedged plain functions: attempts on real threads that end when an event says so."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from backstay.errors import BulkheadFull, Unavailable
from backstay.resilience.hedge import Hedge
from backstay.testing import measured

TENANT = contextvars.ContextVar("tenant", default="nobody")
SOON = 0.001
PATIENT = 5.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def test_BH4_the_loser_runs_on_and_is_counted_until_it_ends(pool: ThreadPoolExecutor) -> None:
    release, left, started = threading.Event(), threading.Event(), list[str]()

    def read() -> str:
        started.append(threading.current_thread().name)
        if len(started) == 1:
            release.wait(PATIENT)
            left.set()
            return "first"
        return "second"

    with measured() as seen:
        assert Hedge("threads", after=SOON, idempotent=True, pool=pool)(read)() == "second"
        assert seen.count("hedge.abandoned", policy_name="threads") == 1
        release.set()
        assert left.wait(PATIENT)
        pool.shutdown(wait=True)
        assert seen.count("hedge.abandoned", policy_name="threads") == 0
    assert seen.count("hedge.calls", policy_name="threads", result="hedge", hedged=True) == 1


def test_the_first_answer_wins_without_a_second_attempt(pool: ThreadPoolExecutor) -> None:
    started: list[int] = []
    hedged = Hedge("first", after=PATIENT, idempotent=True, pool=pool)(lambda: started.append(1) or "answer")
    with measured() as seen:
        assert hedged() == "answer"
    assert started == [1]
    assert seen.count("hedge.calls", policy_name="first", result="first", hedged=False) == 1


def test_a_failure_starts_the_next_at_once_and_the_first_error_is_raised(pool: ThreadPoolExecutor) -> None:
    errors = [LookupError("first"), ValueError("second")]

    def fails() -> None:
        raise errors.pop(0)

    with pytest.raises(LookupError, match="first"):
        Hedge("fails", after=PATIENT, idempotent=True, pool=pool)(fails)()
    assert errors == []


def test_BH3_each_attempt_has_a_copy_of_the_callers_context(pool: ThreadPoolExecutor) -> None:
    seen: list[str] = []
    both = threading.Barrier(2)

    def read() -> None:
        seen.append(TENANT.get())
        TENANT.set("changed")
        both.wait(PATIENT)

    context = contextvars.copy_context()

    def request() -> str:
        TENANT.set("blue")
        Hedge("context", after=SOON, idempotent=True, pool=pool)(read)()
        return TENANT.get()

    assert context.run(request) == "blue"
    assert seen == ["blue", "blue"]


class Full:
    """A pool with room for one."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool, self.room = pool, 1

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.room == 0:
            release.set()
            raise BulkheadFull("no thread is free")
        self.room -= 1
        return self.pool.submit(fn, *args, **kwargs)


release = threading.Event()


def test_no_room_for_a_second_attempt_leaves_the_first_alone(pool: ThreadPoolExecutor) -> None:
    release.clear()

    def read() -> str:
        release.wait(PATIENT)
        return "first"

    assert Hedge("room", after=SOON, idempotent=True, pool=Full(pool))(read)() == "first"


def test_no_room_for_the_first_attempt_is_the_callers_refusal(pool: ThreadPoolExecutor) -> None:
    full = Full(pool)
    full.room = 0
    with pytest.raises(BulkheadFull):
        Hedge("no-room", after=SOON, idempotent=True, pool=full)(lambda: "never")()


def test_a_pool_that_is_shut_down_meanwhile_ends_the_call() -> None:
    busy, release_all = threading.Event(), threading.Event()
    threads = ThreadPoolExecutor(1)

    def block() -> None:
        busy.set()
        release_all.wait(PATIENT)

    threads.submit(block)
    assert busy.wait(PATIENT)

    class Closing:
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = threads.submit(fn, *args, **kwargs)
            threads.shutdown(wait=False, cancel_futures=True)
            return future

    with pytest.raises(Unavailable, match="shut down"):
        Hedge("closing", after=PATIENT, idempotent=True, pool=Closing())(lambda: "never")()
    release_all.set()


def test_AS3_an_exit_in_an_attempt_is_the_callers(pool: ThreadPoolExecutor) -> None:
    started: list[int] = []

    def leave() -> None:
        started.append(1)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        Hedge("exit", after=PATIENT, idempotent=True, pool=pool)(leave)()
    assert started == [1]


def test_what_has_not_begun_is_dropped() -> None:
    ran: list[str] = []
    threads = ThreadPoolExecutor(1)

    def read() -> str:
        ran.append("first")
        queued.wait(PATIENT)
        return "first"

    queued = threading.Event()

    class Watching:
        count = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.count += 1
            future = threads.submit(fn, *args, **kwargs)
            if self.count == 2:
                queued.set()
            return future

    assert Hedge("queue", after=SOON, idempotent=True, pool=Watching())(read)() == "first"
    threads.shutdown(wait=True)
    assert ran in (["first"], ["first", "first"])  # dropped, unless the only thread was quicker than the caller
