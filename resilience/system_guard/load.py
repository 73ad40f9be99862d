"""How loaded the process is, and what that means for a call: values and decisions, no clock."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass

from .settings import GuardSettings

__all__ = ["Capacity", "Load", "pressure", "thresholds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What was measured.

    Attributes:
        cpu: part of the processors that are there for this process which it uses, 0 to 1.
        lag: seconds that the latest event loop is behind; 0 without one.
    """

    cpu: float = 0.0
    lag: float = 0.0


def pressure(load: Load, settings: GuardSettings) -> float:
    """Return how near the load is to what is allowed: 1 is the bound, whichever of the two is nearer."""
    return max(load.cpu / settings.max_cpu, load.lag / settings.max_lag)


def thresholds(settings: GuardSettings) -> tuple[float, float, float]:
    """Return from which pressure on calls are looked at, by priority, the highest first."""
    return settings.critical_share, 1.0, settings.sheddable_share


@dataclass(frozen=True, slots=True, kw_only=True)
class _Second:
    done: int
    shortest: float


class Capacity:
    """What the process bears at once: the most calls that a second saw through, times the shortest of them.

    It is the bandwidth-delay product of BBR (Cardwell et al., 2016), as Sentinel takes it for requests: more calls in
    flight than that only wait for one another. Remembers so many seconds in which calls ended.

    Args:
        seconds: how many are remembered.
    """

    __slots__ = ("_began", "_done", "_rolling", "_seconds", "_shortest", "value")

    def __init__(self, now: float, seconds: int = 10) -> None:
        self._seconds: deque[_Second] = deque(maxlen=seconds)
        self._rolling = threading.Lock()
        self._began = now
        self._done = 0
        self._shortest = math.inf
        self.value = 1
        """Calls at once, at least 1."""

    def ended(self, now: float, took: float) -> None:
        """Take note of a call that ended well. Takes no lock; between threads a shortest call may be missed."""
        if now - self._began >= 1.0 and self._rolling.acquire(blocking=False):
            try:
                self._roll(now)
            finally:
                self._rolling.release()
        self._done += 1
        if took < self._shortest:
            self._shortest = took

    def _roll(self, now: float) -> None:
        span = now - self._began
        if span < 1.0:  # another thread was faster
            return
        if self._done:
            self._seconds.append(_Second(done=math.ceil(self._done / span), shortest=self._shortest))
            most = max(second.done for second in self._seconds)
            self.value = max(1, math.ceil(most * min(second.shortest for second in self._seconds)))
        self._began, self._done, self._shortest = now, 0, math.inf
