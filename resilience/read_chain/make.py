"""Port: what differs between threads and tasks: calling the origin, and waiting for another read."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Protocol

from backstay.clock import Clock

from ..bulkhead.waiters import TaskWaiter, ThreadWaiter, Waiter
from ..policy import Call
from ..timeout.deadline import DUE, leave
from ..timeout.errors import CallTimedOut, DeadlineExceeded
from .backend import Shared

__all__ = ["Make", "TaskMake", "ThreadMake"]

_LONGEST = 86_400.0  # s; who has no deadline waits again after a day


class Make(Protocol):
    """One colour."""

    shared: Shared | None

    def place(self) -> Any:
        """Return the event loop that the caller runs on, or None."""
        ...

    def may_wait_for(self, place: Any) -> bool:
        """Return whether a leader at `place` can go on while the caller waits for it."""
        ...

    def waiter(self) -> Waiter:
        """Return what wakes the caller."""
        ...

    async def wait(self, waiter: Any, seconds: float | None) -> None:
        """Wait until it was granted, or so many seconds."""
        ...

    async def call(self, function: Call, args: Any, kwargs: Any, due: float | None, clock: Clock, name: str) -> Any:
        """Ask the origin, which may read in `remaining()` how long it has.

        Args:
            function: the origin.
            args, kwargs: of the read.
            due: when it must have answered, on the monotonic clock; None for no deadline.
            clock: that clock.
            name: of the chain, for errors.

        Raises:
            DeadlineExceeded: there was no time left to begin.
            CallTimedOut: it was cancelled for being late (tasks only).
        """
        ...


class ThreadMake:
    """Plain functions. What runs in a thread cannot be stopped: `remaining()` tells it when to."""

    def __init__(self, shared: Shared | None) -> None:
        self.shared = shared

    def place(self) -> Any:
        """See `Make.place`."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return None

    def may_wait_for(self, place: Any) -> bool:
        """See `Make.may_wait_for`: a thread that blocks its loop waits for ever for a task of it."""
        return place is None or place is not self.place()

    def waiter(self) -> ThreadWaiter:
        """See `Make.waiter`."""
        return ThreadWaiter()

    async def wait(self, waiter: ThreadWaiter, seconds: float | None) -> None:
        """See `Make.wait`."""
        waiter.wait(_LONGEST if seconds is None else max(0.0, seconds))

    async def call(self, function: Call, args: Any, kwargs: Any, due: float | None, clock: Clock, name: str) -> Any:
        """See `Make.call`."""
        if due is None:
            return function(*args, **kwargs)
        if due <= clock():
            raise _refusal(name)
        token = DUE.set(due)
        try:
            return function(*args, **kwargs)
        finally:
            DUE.reset(token)


class TaskMake:
    """Coroutine functions."""

    def __init__(self, shared: Shared | None) -> None:
        self.shared = shared

    def place(self) -> Any:
        """See `Make.place`."""
        return asyncio.get_running_loop()

    def may_wait_for(self, place: Any) -> bool:
        """See `Make.may_wait_for`."""
        return True

    def waiter(self) -> TaskWaiter:
        """See `Make.waiter`."""
        return TaskWaiter()

    async def wait(self, waiter: TaskWaiter, seconds: float | None) -> None:
        """See `Make.wait`."""
        await waiter.wait(_LONGEST if seconds is None else max(0.0, seconds))

    async def call(self, function: Call, args: Any, kwargs: Any, due: float | None, clock: Clock, name: str) -> Any:
        """See `Make.call`."""
        if due is None:
            return await function(*args, **kwargs)
        left = due - clock()
        if left <= 0:
            raise _refusal(name)
        token, scope = DUE.set(due), asyncio.timeout(left if left < math.inf else None)
        try:
            async with scope:
                return await function(*args, **kwargs)
        except TimeoutError as error:
            if scope.expired():
                raise CallTimedOut(f"the origin of {name!r} did not answer within {left:.3f} s") from error
            raise
        finally:
            leave(DUE, token)


def _refusal(name: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"the origin of {name!r} was not asked: the deadline had passed")
