"""The semaphore bulkhead: at most so many calls at once, in threads and on event loops together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from backstay.clock import Clock, monotonic
from backstay.errors import BulkheadFull, Misuse

from ..forks import renew_in_child
from ..policy import Admission, Admit, AdmitAsync, AsyncCall, Call, Layer, Settle, Target
from ..timeout.deadline import within
from ..timeout.errors import DeadlineExceeded
from .permits import Permits
from .settings import BulkheadSettings
from .telemetry import Waits, export_levels
from .waiters import TaskWaiter, ThreadWaiter, Waiter

__all__ = ["Bulkhead"]

Gate: TypeAlias = tuple[Mapping[Waiter, None], Callable[[], None], Callable[[None], None], Permits]
"""Line, take, put and the permits that they belong to: one load for the hot path."""


class Bulkhead(Layer):
    """Lets at most `max_concurrent` calls run at once; the others wait in line for `max_wait`, or are refused.

    The number is exact for threads and for tasks of any number of event loops that share one bulkhead (BH-1, AS-4).
    Permits are granted first come, first served; a waiter that is cancelled or runs out of time leaves no hole. A
    permit comes back however the call ends. It counts one process: N workers run up to N times as many.

        isolated = Bulkhead("recommendations", max_concurrent=8)

        @isolated
        def recommendations(household_id): ...

        with isolated.admission(): ...

    Args:
        name: for errors and telemetry.
        max_concurrent: permits, at least 1.
        max_wait: seconds that a call may wait for a permit; 0 refuses at once.
        max_waiting: calls that may wait at the same time.
        settings: all of these as one object instead.
        clock: measures waits.

    A wait lasts no longer than a deadline that is in force outside.

    Raises:
        Misuse: a setting is out of range, or both forms are given.
    """

    kind = "bulkhead"

    def __init__(
        self,
        name: str,
        *,
        max_concurrent: int | None = None,
        max_wait: float | None = None,
        max_waiting: int | None = None,
        settings: BulkheadSettings | None = None,
        clock: Clock = monotonic,
    ) -> None:
        given: dict[str, Any] = {"max_concurrent": max_concurrent, "max_wait": max_wait, "max_waiting": max_waiting}
        given = {setting: value for setting, value in given.items() if value is not None}
        if settings is not None and given:
            raise Misuse(f"bulkhead {name!r}: give settings=, or {', '.join(given)}, but not both")
        self.name = name
        self._settings = settings if settings is not None else BulkheadSettings(**given)
        self._clock = clock
        self._gate = self._open()
        self._waits = Waits(name, "semaphore")
        export_levels(
            name, "semaphore",
            active=self._active, limit=self._limit, queued=self._queued, queue_limit=self._queue_limit,
        )  # fmt: skip
        renew_in_child(self)

    def __repr__(self) -> str:
        return f"Bulkhead({self.name!r}, {self._permits.in_use} of {self._permits.limit} permits in use)"

    @property
    def settings(self) -> BulkheadSettings:
        """The settings in force."""
        return self._settings

    @property
    def in_use(self) -> int:
        """Permits that calls hold now."""
        return self._permits.in_use

    @property
    def waiting(self) -> int:
        """Calls that wait for a permit now."""
        return self._permits.waiting

    def reconfigure(self, settings: BulkheadSettings) -> None:
        """Apply other settings. Running calls go on; with fewer permits than they hold, none is granted until enough
        of them have ended. Calls in line keep the time that they were promised.
        """
        self._settings = settings
        self._permits.resize(settings.max_concurrent)

    def admission(self) -> Admission:
        """Return a context manager, for `with` and `async with`, that holds a permit while its block runs."""
        return Admission(self, self.name)

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the bulkhead."""
        at_once = self._waits.accepted.buckets

        def isolated(*args: Any, **kwargs: Any) -> Any:
            line, take, put, permits = self._gate  # a forked child has others: what was taken here goes back here
            if line:
                self._wait(permits)
            else:
                try:
                    take()
                except IndexError:
                    self._wait(permits)
                else:
                    at_once[0] += 1
            try:
                return call(*args, **kwargs)
            finally:
                put(None)
                if line:
                    permits.hand_on()

        return isolated

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` behind the bulkhead."""
        at_once = self._waits.accepted.buckets

        async def isolated(*args: Any, **kwargs: Any) -> Any:
            line, take, put, permits = self._gate
            if line:
                await self._wait_async(permits)
            else:
                try:
                    take()
                except IndexError:
                    await self._wait_async(permits)
                else:
                    at_once[0] += 1
            try:
                return await call(*args, **kwargs)
            finally:
                put(None)
                if line:
                    permits.hand_on()

        return isolated

    def admit(self, target: Target) -> Admit:
        """Return what takes a permit for a stream or a block."""

        def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            permits = self._permits
            self._wait(permits)
            return permits.settle

        return admitted

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return what takes a permit for a stream or a block on an event loop."""

        async def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            permits = self._permits
            await self._wait_async(permits)
            return permits.settle

        return admitted

    def _wait(self, permits: Permits) -> None:
        """Take a permit, in line if need be, or raise the refusal."""
        if permits.try_take():
            self._waits.accepted.record(0.0)
            return
        settings = self._settings
        if settings.max_wait == 0:
            raise self._refusal(settings)
        patience, began, waiter = self._patience(settings), self._clock(), ThreadWaiter()
        if not permits.stand_in_line(waiter, settings.max_waiting):
            raise self._refusal(settings)
        try:
            waiter.wait(patience)
        except BaseException:  # KeyboardInterrupt, or a time limit that a signal raises
            self._withdraw(permits, waiter, began)
            raise
        self._end_of_wait(permits, waiter, began)

    async def _wait_async(self, permits: Permits) -> None:
        if permits.try_take():
            self._waits.accepted.record(0.0)
            return
        settings = self._settings
        if settings.max_wait == 0:
            raise self._refusal(settings)
        patience, began, waiter = self._patience(settings), self._clock(), TaskWaiter()
        if not permits.stand_in_line(waiter, settings.max_waiting):
            raise self._refusal(settings)
        try:
            await waiter.wait(patience)
        except BaseException:  # cancelled, or closed with its loop
            self._withdraw(permits, waiter, began)
            raise
        self._end_of_wait(permits, waiter, began)

    def _patience(self, settings: BulkheadSettings) -> float:
        """Return how long to wait: no longer than the deadline in force."""
        try:
            return within(settings.max_wait, clock=self._clock) or 0.0
        except DeadlineExceeded:
            self._waits.timed_out.record(0.0)
            raise

    def _end_of_wait(self, permits: Permits, waiter: Waiter, began: float) -> None:
        granted = permits.leave(waiter)
        waited = self._clock() - began
        (self._waits.accepted if granted else self._waits.timed_out).record(waited)
        if not granted:
            raise BulkheadFull(
                f"bulkhead {self.name!r}: no permit of {permits.limit} came free in {waited:.3g} s; "
                "the function was not called"
            )

    def _withdraw(self, permits: Permits, waiter: Waiter, began: float) -> None:
        if permits.leave(waiter):
            permits.give_back()
        waited = self._clock() - began
        self._waits.canceled.record(waited)

    def _refusal(self, settings: BulkheadSettings) -> BulkheadFull:
        self._waits.rejected.record(0.0)
        line = f" and {settings.max_waiting} callers wait" if settings.max_wait else ""
        return BulkheadFull(
            f"bulkhead {self.name!r}: all {settings.max_concurrent} permits are in use{line}; "
            "the function was not called"
        )

    def renew(self) -> None:
        """Start with all permits in a forked child: the threads that hold the parent's do not exist there."""
        self._gate = self._open()

    def _open(self) -> Gate:
        permits = Permits(self._settings.max_concurrent)
        return permits.line, permits.take, permits.put, permits

    @property
    def _permits(self) -> Permits:
        return self._gate[3]

    def _active(self) -> float:
        return self._permits.in_use

    def _limit(self) -> float:
        return self._permits.limit

    def _queued(self) -> float:
        return self._permits.waiting

    def _queue_limit(self) -> float:
        settings = self._settings
        return settings.max_waiting if settings.max_wait else 0
