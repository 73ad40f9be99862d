"""The thread-pool bulkhead: calls run in workers, so that a caller can leave before its call has ended."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ...forks import renew_in_child
from ...policy import AsyncCall, Call, Layer, Target
from ...timeout.deadline import DUE, within
from ...timeout.errors import DeadlineExceeded
from ..telemetry import Waits, export_levels
from .crew import Crew
from .job import current
from .pending import Pending
from .settings import ThreadPoolSettings

__all__ = ["ThreadPool"]

T = TypeVar("T")

_AT_EXIT = 2.0
"""Seconds that a process waits at its end for the workers of all its pools."""


class ThreadPool(Layer):
    """Runs calls in at most `max` threads of its own, with at most `queue` calls waiting; refuses the next at once.

    Refusing happens in the caller and takes no time (BH-2). A caller that runs out of time is freed then: if its call
    had not begun it never will, and `DeadlineExceeded` says so; if it had, `CallTimedOut` says that the outcome is
    unknown. A running thread cannot be stopped: the worker is abandoned, keeps its permit until the call ends, is
    shown as `state=abandoned`, and the call can learn of it by `cancelled()` (BH-4). With all workers abandoned the
    pool refuses instead of hanging. Each call runs in a copy of its caller's context; what it changes there does not
    come back (BH-3). A call to the pool from one of its own workers runs in place.

        reports = ThreadPool("reports", core=2, max=4, queue=16)

        @reports
        def report(month): ...

        page = await reports.call_async(partial(report, 7), timeout=2.0)

    Args:
        name: for errors, threads and telemetry.
        core: workers that are kept once they were needed.
        max: workers at most; those above `core` are hired when the queue is full.
        queue: calls that may wait for a worker.
        keep_alive: seconds after which an idle worker above `core` leaves.
        settings: all of these as one object instead.
        clock: measures waits and decides what has waited too long.

    Raises:
        Misuse: a setting is out of range, or both forms are given.
    """

    kind = "bulkhead"

    def __init__(
        self,
        name: str,
        *,
        core: int | None = None,
        max: int | None = None,  # noqa: A002  # the field's word
        queue: int | None = None,
        keep_alive: float | None = None,
        settings: ThreadPoolSettings | None = None,
        clock: Clock = monotonic,
    ) -> None:
        given: dict[str, Any] = {"core": core, "max": max, "queue": queue, "keep_alive": keep_alive}
        given = {setting: value for setting, value in given.items() if value is not None}
        if settings is not None and given:
            raise Misuse(f"thread pool {name!r}: give settings=, or {', '.join(given)}, but not both")
        self.name = name
        self._settings = settings if settings is not None else ThreadPoolSettings(**given)
        self._clock = clock
        self._waits = Waits(name, "thread_pool")
        self._crew = self._gather()
        export_levels(
            name, "thread_pool",
            active=self._active, limit=self._limit, queued=self._queued, queue_limit=self._queue_limit,
            abandoned=self._abandoned,
        )  # fmt: skip
        renew_in_child(self)
        _pools.add(self)

    def __repr__(self) -> str:
        crew = self._crew
        return (
            f"ThreadPool({self.name!r}, {crew.running} of {self._settings.max} workers busy, "
            f"{len(crew.abandoned)} abandoned, {len(crew.queue)} calls queued)"
        )

    @property
    def settings(self) -> ThreadPoolSettings:
        """The settings in force."""
        return self._settings

    @property
    def running(self) -> int:
        """Calls that run now and whose callers wait for them."""
        return self._crew.running

    @property
    def queued(self) -> int:
        """Calls that wait for a worker now."""
        return len(self._crew.queue)

    @property
    def abandoned(self) -> int:
        """Calls that still run although their callers have gone."""
        return len(self._crew.abandoned)

    def reconfigure(self, settings: ThreadPoolSettings) -> None:
        """Apply other settings. Running and queued calls stay; workers above the new numbers leave when idle."""
        self._settings = settings
        self._crew.reconfigure(settings)

    def call(self, function: Callable[[], T], *, timeout: float | None = None) -> T:
        """Run `function` in a worker and return what it returns, or raise what it raises.

        Args:
            function: takes nothing; use `functools.partial`.
            timeout: seconds from now; a nearer deadline that is in force outside counts instead.

        Raises:
            BulkheadFull: no worker is free and the queue is full; nothing was called.
            DeadlineExceeded: the time was up before the function was begun; nothing was called.
            CallTimedOut: the time was up while it ran; it runs on, abandoned.
        """
        if timeout is None and (job := current()) is not None and job.owner is self:
            return function()  # this is a worker of ours: to wait for another one could wait for ever
        return Pending(self._crew, function, self, self._within(timeout)).result()

    def submit(self, function: Callable[[], T], *, timeout: float | None = None) -> Pending[T]:
        """Have `function` run by a worker, and return at once what its result can be waited for with.

        Args:
            function: takes nothing; use `functools.partial`.
            timeout: seconds from now, as for `call`.

        Raises:
            BulkheadFull: no worker is free and the queue is full; nothing was called.
            DeadlineExceeded: a deadline that is in force outside has passed; nothing was called.
        """
        return Pending(self._crew, function, self, self._within(timeout))

    async def call_async(self, function: Callable[[], T], *, timeout: float | None = None) -> T:
        """Run `function` in a worker while the event loop goes on; otherwise as `call`.

        A cancelled task leaves at once: a call that waits is dropped, one that runs is abandoned.
        """
        timeout, crew, loop = self._within(timeout), self._crew, asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is there to hear of it
                loop.call_soon_threadsafe(_wake, ended)

        job = crew.job(function, finish, self, timeout)
        crew.submit(job)
        timer = None if timeout is None else loop.call_later(timeout, _wake, ended)
        try:
            await ended
        except BaseException:  # cancelled, or closed with its loop
            crew.leave(job)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if not job.ended:
            crew.give_up(job)
        result: T = job.outcome()
        return result

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` run by a worker."""

        def pooled(*args: Any, **kwargs: Any) -> Any:
            return self.call(partial(call, *args, **kwargs))

        return pooled

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Refuse: a coroutine belongs to its loop.

        Raises:
            Misuse: always, when the decorator is applied.
        """
        raise Misuse(
            f"{target.resource!r}: {target.label}() is async def, and a thread pool runs plain functions; give it a "
            "Bulkhead, or await call_async() of the pool inside it"
        )

    def close(self, timeout: float = _AT_EXIT) -> bool:
        """Take no more calls, and wait so many seconds for those that run; return whether all have ended.

        Queued calls are still run. Called by itself when the process ends.
        """
        return self._crew.close(timeout)

    def renew(self) -> None:
        """Start with no workers in a forked child, where none of the parent's exist."""
        self._crew = self._gather()

    def _gather(self) -> Crew:
        crew = Crew(self.name, self._settings, self._waits, self._clock)
        weakref.finalize(self, crew.close, 0.0).atexit = False  # a pool that nobody holds has no use for workers
        return crew

    def _within(self, timeout: float | None) -> float | None:
        if timeout is None and DUE.get() is None:
            return None
        try:
            return within(timeout, clock=self._clock)
        except DeadlineExceeded:
            self._waits.timed_out.record(0.0)
            raise

    def _active(self) -> float:
        return self._crew.running

    def _abandoned(self) -> float:
        return len(self._crew.abandoned)

    def _limit(self) -> float:
        return self._settings.max

    def _queued(self) -> float:
        return len(self._crew.queue)

    def _queue_limit(self) -> float:
        return self._settings.queue


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()


def _close_all() -> None:
    due = monotonic() + _AT_EXIT
    for pool in tuple(_pools):
        pool.close(max(0.0, due - monotonic()))


atexit.register(_close_all)
