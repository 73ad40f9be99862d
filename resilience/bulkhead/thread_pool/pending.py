"""A call that a thread pool has taken on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from backstay.errors import Misuse

from .crew import Crew
from .job import Job

__all__ = ["Pending"]

T = TypeVar("T")


class Pending(Generic[T]):
    """Waits for a submitted call, in the thread that submitted it or another; `result` may be called once.

    One that is dropped without a look at it runs all the same.
    """

    __slots__ = ("_bell", "_crew", "_job", "_taken")

    def __init__(self, crew: Crew, function: Callable[[], T], owner: object, timeout: float | None) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()
        self._crew = crew
        self._taken = False
        self._job: Job = crew.job(function, self._bell.release, owner, timeout)
        crew.submit(self._job)

    @property
    def done(self) -> bool:
        """Whether the call has ended."""
        return self._job.ended

    def result(self) -> T:
        """Return what the function returns, or raise what it raises, as `ThreadPool.call` does.

        Raises:
            DeadlineExceeded: the time was up before the function was begun; nothing was called.
            CallTimedOut: the time was up while it ran; it runs on, abandoned.
            Misuse: it was called before.
        """
        if self._taken:
            raise Misuse("the result of a pending call can be taken once; keep what result() returned")
        self._taken = True
        job, due = self._job, self._job.not_after
        try:
            if due is None:
                self._bell.acquire()
            else:
                self._bell.acquire(timeout=min(self._crew.until(due), threading.TIMEOUT_MAX))
        except BaseException:  # KeyboardInterrupt, or a time limit that a signal raises
            self._crew.leave(job)
            raise
        if not job.ended:
            self._crew.give_up(job)
        result: T = job.outcome()
        return result

    def cancel(self) -> None:
        """Give the call up: it is never begun, or runs on, abandoned, and can learn of it by `cancelled()`."""
        if not self._job.ended:
            self._crew.leave(self._job)
