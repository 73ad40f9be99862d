"""One call on its way through a thread pool, and the token by which it learns that nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from threading import get_ident
from typing import Any

__all__ = ["Job", "cancelled", "current"]


class Job:
    """A function with the caller's context, and later its outcome.

    It belongs to whoever takes it out of the queue: a worker, who runs it, or its caller, who gives it up.

    Attributes:
        queued_at: when it was submitted.
        not_after: when it may no longer be begun, or None.
        ended: whether its outcome is known; written last.
        left: whether its caller has gone.
    """

    __slots__ = ("context", "ended", "error", "finish", "function", "left", "not_after", "owner", "queued_at", "result",
                 "thread")  # fmt: skip

    def __init__(
        self, function: Callable[[], Any], finish: Callable[[], Any], owner: object, now: float, not_after: float | None
    ) -> None:
        self.function = function
        self.finish = finish
        self.owner = owner
        self.queued_at = now
        self.not_after = not_after
        self.context: Context = copy_context()
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        self.left = False
        self.thread = 0

    def run(self) -> None:
        """Run the function in the caller's context (BH-3); whatever it raises is its outcome."""
        context = self.context
        del self.context  # which knows this job: a cycle would keep arguments and results until garbage is collected
        try:
            self.result = context.run(self._inside)
        except BaseException as error:
            self.error = error

    def _inside(self) -> Any:
        self.thread = get_ident()
        _current.set(self)
        function = self.function
        del self.function
        return function()

    def outcome(self) -> Any:
        """Return or raise what the function did. Once."""
        error, self.error = self.error, None  # an error's traceback holds this frame: no cycle
        if error is None:
            return self.result
        try:
            raise error
        finally:
            del error


_current: ContextVar[Job | None] = ContextVar("backstay_job", default=None)


def current() -> Job | None:
    """Return the job that this thread is running, or None outside a pool's workers."""
    job = _current.get()
    return job if job is not None and job.thread == get_ident() else None


def cancelled() -> bool:
    """Return whether the caller of the pooled work in hand has gone: it timed out, or was cancelled.

    Work that takes long asks this now and then, and ends: a running thread cannot be stopped from outside, and holds
    its worker until it ends (BH-4). False outside a thread pool.
    """
    job = _current.get()
    return job is not None and job.left
