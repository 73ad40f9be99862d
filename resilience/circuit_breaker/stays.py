"""The episodes in which a breaker refuses, probes, or looks away."""

from __future__ import annotations

import math

from .settings import BreakerSettings
from .states import Cause, State
from .windows import REFUSING, UNHURRIED, Episode, Totals

__all__ = ["Aside", "Probing", "Refusing"]


class Aside:
    """Disabled: nothing is recorded."""

    __slots__ = ("path", "state")

    def __init__(self) -> None:
        self.state = State.DISABLED
        self.path = UNHURRIED

    def record(self, failed: bool, slow: bool, now: float, permit: object) -> Cause | None:
        return None

    def give_back(self, permit: object) -> None:
        return

    def totals(self, now: float) -> Totals:
        return Totals()

    def adapt(self, settings: BreakerSettings, now: float) -> Episode:
        return self


class Refusing(Aside):
    """Open until a moment, or forced open for ever. Late results of earlier episodes do not come here."""

    __slots__ = ("endless", "label", "until")

    def __init__(self, state: State, until: float) -> None:
        self.state = state
        self.label: str = state.value  # an enum's `value` costs more than raising the refusal
        self.path = REFUSING
        self.until = until
        self.endless = until == math.inf


class Probing:
    """Half open: at most so many calls in flight or done (CB-4), each on a lease (CB-5).

    A permit is an object in a dict. `dict.pop` is atomic, so giving one back takes no lock and happens once,
    whether by the result, a cancellation, a collected generator, or because the lease ran out before.
    """

    __slots__ = ("done", "failures", "leases", "path", "permitted", "settings", "slow", "state")

    def __init__(self, settings: BreakerSettings, permitted: int) -> None:
        self.state = State.HALF_OPEN
        self.path = UNHURRIED
        self.settings = settings
        self.permitted = permitted
        self.leases: dict[object, float] = {}
        self.done = self.failures = self.slow = 0

    def take(self, now: float) -> object | None:
        """Return a permit for a probe, under the lock, or None where all are out."""
        for permit, end in tuple(self.leases.items()):
            if end <= now:
                self.leases.pop(permit, None)
        if self.done + len(self.leases) >= self.permitted:
            return None
        permit = object()
        self.leases[permit] = now + self.settings.lease
        return permit

    def record(self, failed: bool, slow: bool, now: float, permit: object) -> Cause | None:
        if self.leases.pop(permit, None) is None:
            return None  # its lease ran out, and another probe may have its place
        self.done += 1
        if failed:
            self.failures += 1
        if slow:
            self.slow += 1
        return self.judged()

    def judged(self) -> Cause | None:
        """Return the decision as soon as the probes that are still to come cannot change it."""
        settings, whole = self.settings, max(self.permitted, self.done)
        if settings.consecutive is not None:
            failed = self.failures > 0
            passed = self.done >= whole
        else:
            missing = whole - self.done
            failed = any(settings.reached(self.failures, self.slow, whole))
            passed = not any(settings.reached(self.failures + missing, self.slow + missing, whole))
        return Cause.PROBES_FAILED if failed else Cause.PROBES_PASSED if passed else None

    def give_back(self, permit: object) -> None:
        self.leases.pop(permit, None)

    def totals(self, now: float) -> Totals:
        return Totals(calls=self.done, failures=self.failures, slow=self.slow)

    def adapt(self, settings: BreakerSettings, now: float) -> Episode:
        if self.permitted == self.settings.probes:  # not a number that the other instances left to this one
            self.permitted = settings.probes
        self.settings = settings
        return self
