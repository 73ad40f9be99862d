"""Clocks for decisions: monotonic, and going on while the machine sleeps.

`time.monotonic` stops on Linux while the machine is suspended, whereas a server's time-to-live goes on:
a lease that was checked against it would look valid for hours after it ended. `CLOCK_BOOTTIME` does not
stop. No wall clock decides anything in Backstay (criteria T1 and T2 of the locks).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Clock", "monotonic", "monotonic_ns"]

Clock: TypeAlias = Callable[[], float]
"""A function that returns seconds since an arbitrary start and never goes back."""

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # not Linux: the best that a POSIX system has


# Bound as defaults, because every hot path reads the clock: no global look-up, no attribute.
def monotonic(_read: Callable[[int], float] = time.clock_gettime, _clock: int = _CLOCK) -> float:
    """Return seconds since boot, time asleep included."""
    return _read(_clock)


def monotonic_ns(_read: Callable[[int], int] = time.clock_gettime_ns, _clock: int = _CLOCK) -> int:
    """Return nanoseconds since boot, time asleep included."""
    return _read(_clock)
