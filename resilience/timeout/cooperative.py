"""The deadline as a policy: it tells how much time there is and stops nothing."""

from __future__ import annotations

from typing import Any

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ..policy import AsyncCall, Call, Layer, Target
from .deadline import DUE, leave
from .errors import DeadlineExceeded
from .settings import TimeoutSettings
from .telemetry import TimeoutCalls

__all__ = ["Deadline"]


class Deadline(Layer):
    """Gives each call a deadline that everything it calls can read by `remaining()`.

    A call that is past its deadline already is refused by `DeadlineExceeded`, with nothing done. One that has
    begun is never interrupted; that it overran is counted. Where a nearer deadline is in force outside, that one
    stays.

    Args:
        name: of the policy, in telemetry.
        seconds: a number or a timedelta.
        settings: instead of `seconds`.
        clock: monotonic seconds.

    Raises:
        Misuse: the duration is out of range.
    """

    kind = "timeout"

    def __init__(
        self, name: str, seconds: Any = None, *, settings: TimeoutSettings | None = None, clock: Clock = monotonic
    ) -> None:
        if (seconds is None) == (settings is None):
            raise Misuse(f"deadline {name!r} needs seconds= or settings=, one of them")
        self.name = name
        self._clock = clock
        self._settings = TimeoutSettings.of(settings if settings is not None else seconds)

    @property
    def settings(self) -> TimeoutSettings:
        """What is in force for calls that begin now."""
        return self._settings

    def reconfigure(self, settings: TimeoutSettings) -> None:
        """Give calls that begin from now on so long."""
        self._settings = settings

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` with the deadline."""
        clock, calls = self._clock, TimeoutCalls(self.name, target.resource)
        in_time, get_due, set_due, reset_due = calls.in_time, DUE.get, DUE.set, DUE.reset

        def bounded(*args: Any, **kwargs: Any) -> Any:
            now, outer = clock(), get_due()
            due = now + self._settings.seconds
            if outer is not None and outer < due:
                due = self._nearer(outer, now, calls)
            token = set_due(due)
            try:
                return call(*args, **kwargs)
            finally:
                reset_due(token)
                if clock() > due:
                    calls.late.n += 1
                else:
                    in_time.n += 1

        return bounded

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` with the deadline."""
        clock, calls = self._clock, TimeoutCalls(self.name, target.resource)
        in_time, get_due, set_due = calls.in_time, DUE.get, DUE.set

        async def bounded(*args: Any, **kwargs: Any) -> Any:
            now, outer = clock(), get_due()
            due = now + self._settings.seconds
            if outer is not None and outer < due:
                due = self._nearer(outer, now, calls)
            token = set_due(due)
            try:
                return await call(*args, **kwargs)
            finally:
                leave(DUE, token)
                if clock() > due:
                    calls.late.n += 1
                else:
                    in_time.n += 1

        return bounded

    def _nearer(self, outer: float, now: float, calls: TimeoutCalls) -> float:
        if outer <= now:
            calls.late.n += 1
            raise DeadlineExceeded(f"{self.name!r} was not begun: the deadline had passed")
        return outer
