"""Timeouts: the caller is freed when the time is up.

In async code the call is cancelled. A running thread cannot be stopped, so a plain function needs a thread pool,
whose worker is given up (BH-4); where there is none, `Deadline` is the honest choice.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task, get_running_loop
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ..forks import renew_in_child
from ..policy import AsyncCall, Call, Layer, Target
from .deadline import DUE, leave
from .errors import CallTimedOut, DeadlineExceeded
from .line import Line, Pace
from .settings import TimeoutSettings
from .telemetry import TimeoutCalls

__all__ = ["AttemptTimeout", "Timeout", "Workers"]


class Workers(Protocol):
    """A thread pool, as far as a timeout needs one."""

    def call(self, function: Callable[[], Any], *, timeout: float | None = None) -> Any:
        """Run `function` in a worker; give up waiting for it after `timeout` seconds and raise `CallTimedOut`."""
        ...


class Timeout(Layer):
    """Bounds how long a call takes in all: retries and waits further in are inside it.

    A call that is late raises `CallTimedOut`, whose outcome is unknown. A deadline outside that is nearer is kept
    instead, and one that has passed refuses the call by `DeadlineExceeded`, with nothing done. What is inside
    reads the deadline by `remaining()`. A call that ends although it was cancelled keeps its result. Nothing else
    is swallowed: a cancellation from outside that comes at the same moment wins.

    Args:
        name: of the policy, in telemetry.
        seconds: a number or a timedelta.
        settings: instead of `seconds`.
        pool: what runs plain functions; without one they are refused.
        pooled: a thread pool further in runs plain functions and waits no longer than `remaining()`.
        clock: monotonic seconds.

    Raises:
        Misuse: the duration is out of range; when applied, the function is plain and there is no pool.
    """

    kind = "timeout"
    _suffix = ""

    def __init__(
        self,
        name: str,
        seconds: Any = None,
        *,
        settings: TimeoutSettings | None = None,
        pool: Workers | None = None,
        pooled: bool = False,
        clock: Clock = monotonic,
    ) -> None:
        if (seconds is None) == (settings is None):
            raise Misuse(f"timeout {name!r} needs seconds= or settings=, one of them")
        self.name = name
        self._clock = clock
        self._pool = pool
        self._pooled = pooled
        self._settings = TimeoutSettings.of(settings if settings is not None else seconds)
        self._pace = Pace(self._settings.seconds, clock)
        renew_in_child(self)

    @property
    def settings(self) -> TimeoutSettings:
        """What is in force for calls that begin now."""
        return self._settings

    def reconfigure(self, settings: TimeoutSettings) -> None:
        """Let calls that begin from now on take so long; those in flight keep their deadlines."""
        self._settings, self._pace = settings, Pace(settings.seconds, self._clock)

    def renew(self) -> None:
        """Make it usable in a forked child."""
        self._pace.renew()

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` with the timeout, run by the pool."""
        if self._pool is None and not (self._pooled or target.pooled):
            raise Misuse(
                f"{target.resource!r}: a timeout cannot stop {target.label}(), which is no `async def`: run it in a "
                "thread pool (thread_pool=8 or pool=), or say deadline= for a deadline that "
                "what it calls can read"
            )
        clock, calls, run = self._clock, TimeoutCalls(self.name + self._suffix, target.resource), self._pool

        def timed(*args: Any, **kwargs: Any) -> Any:
            now, outer = clock(), DUE.get()
            due = now + self._pace.seconds
            if outer is not None and outer < due:
                due = outer
                if due <= now:
                    raise self._refusal(calls)
            token = DUE.set(due)
            try:
                if run is None:
                    result = call(*args, **kwargs)
                else:
                    result = run.call(partial(call, *args, **kwargs), timeout=due - now)
            except (CallTimedOut, DeadlineExceeded):
                ended = clock()
                if ended >= due:  # else it was a nearer timeout's, further in
                    calls.late.n += 1
                else:
                    calls.in_time.n += 1
                raise
            except BaseException:
                calls.in_time.n += 1
                raise
            finally:
                DUE.reset(token)
            calls.in_time.n += 1
            return result

        return timed

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` with the timeout; it is cancelled when it is late."""
        clock, calls, resource = self._clock, TimeoutCalls(self.name + self._suffix, target.resource), target.resource
        in_time, get_due, set_due, reset_due = calls.in_time, DUE.get, DUE.set, DUE.reset

        async def timed(*args: Any, **kwargs: Any) -> Any:
            pace, loop = self._pace, get_running_loop()
            line = pace.lines.get(loop)
            if line is None:
                line = pace.open(loop)
            task = current_task(loop)
            if task is None:
                raise Misuse(f"{resource!r}: a timeout cancels the task that it runs in, and here is none")
            now, outer = clock(), get_due()
            due, in_turn = now + line.seconds, True
            if outer is not None and outer < due:
                if outer <= now:
                    raise self._refusal(calls)
                line, due, in_turn = Line(loop, clock, outer - now), outer, False
            token, key = set_due(due), object()
            waiting, cancelling = line.calls, task.cancelling()
            waiting[key] = (due, task)
            if not line.armed:
                line.arm(due)
            try:
                result = await call(*args, **kwargs)
            except BaseException as error:
                leave(DUE, token)
                if waiting.pop(key, None) is not None:
                    in_time.n += 1
                    raise
                calls.late.n += 1
                if task.uncancel() <= cancelling and isinstance(error, CancelledError):
                    raise CallTimedOut(
                        f"{resource!r} did not end within {due - now:.3f} s and was cancelled; it may have taken effect"
                    ) from error
                raise
            finally:
                if not in_turn:
                    line.disarm()
            reset_due(token)
            if waiting.pop(key, None) is None:  # it caught the cancellation and has a result all the same
                task.uncancel()
                calls.late.n += 1
            else:
                in_time.n += 1
            return result

        return timed

    def _refusal(self, calls: TimeoutCalls) -> DeadlineExceeded:
        calls.late.n += 1
        return DeadlineExceeded(f"{self.name!r} was not begun: the deadline had passed")


class AttemptTimeout(Timeout):
    """Bounds how long one attempt takes: inside the retry, so that each attempt has all of it."""

    kind = "attempt_timeout"
    _suffix = ".attempt"
