"""Histograms bucketed in process: one search and two additions a value.

OpenTelemetry has no observable histogram, so what is counted here leaves in one of two ways: as true
histograms through `with_histograms(exporter)` (which `setup` does by itself), or else as the three
observable series `..._bucket`, `..._sum`, `..._count` that Prometheus' `histogram_quantile` reads.
"""

from __future__ import annotations

import sys
import threading
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from backstay.errors import Misuse

__all__ = ["COUNTS", "SECONDS", "Histogram", "LockedHistogram", "bounds_for", "new_histogram"]

SECONDS = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025),  # waits for local permits take microseconds
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),  # OT-6
)
"""Upper bounds of duration buckets, in seconds, inclusive."""
COUNTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Upper bounds for histograms of anything else, such as retries of a call."""


class Histogram:
    """A histogram that is exact with a GIL (see `backstay.telemetry.counters` for why).

    Hot paths may inline `record`: `i = bisect_left(h.bounds, v); h.buckets[i] += 1; h.sum += v`.
    """

    __slots__ = ("bounds", "buckets", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def record(self, value: float) -> None:
        """Count `value`, in seconds for durations."""
        place = bisect_left(self.bounds, value)
        self.buckets[place] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(self.buckets)

    def zero(self) -> None:
        """Start again at zero, in place, for a forked child."""
        self.buckets[:] = [0] * len(self.buckets)
        self.sum = 0.0


class LockedHistogram(Histogram):
    """The histogram of free-threaded builds, where additions from several threads lose values."""

    __slots__ = ("_lock",)

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__(bounds)
        self._lock = threading.Lock()

    def record(self, value: float) -> None:
        with self._lock:
            super().record(value)

    def zero(self) -> None:
        self._lock = threading.Lock()
        super().zero()


def bounds_for(unit: str, bounds: Sequence[float] | None) -> tuple[float, ...]:
    """Return the bucket bounds of a histogram.

    Raises:
        Misuse: `bounds` are empty or do not rise.
    """
    if bounds is None:
        return SECONDS if unit == "s" else COUNTS
    chosen = tuple(float(bound) for bound in bounds)
    if not chosen or any(low >= high for low, high in pairwise(chosen)):
        raise Misuse(f"bounds of a histogram must rise, got {chosen}")
    return chosen


def new_histogram(bounds: Sequence[float]) -> Histogram:
    """Return a histogram that is exact on this build of Python."""
    has_gil = getattr(sys, "_is_gil_enabled", None)
    return Histogram(bounds) if has_gil is None or has_gil() else LockedHistogram(bounds)
