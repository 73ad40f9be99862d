"""From a limit and a window to the next limit: AIMD, Vegas, Gradient2, as functions without state (AD-1).

All three keep the same rules. The limit rises only if at least half of it was in use, so that a quiet hour neither
raises nor lowers it. It moves by at most one step, a tenth of itself. Where latency decides, it is the median of a
window beside what calls take when there is no queue (see `baseline`).

Sources: Brakmo and Peterson, TCP Vegas (1995); Netflix, Performance Under Load (2018), for Gradient2.
"""

from __future__ import annotations

import math

from .window import Window

__all__ = ["aimd", "gradient2", "vegas"]

_TOLERANCE = 1.05
"""Gradient2 takes latency up to this times the baseline for no queue at all."""


def aimd(limit: float, window: Window, target: float | None) -> float:
    """Return the next limit: one more while calls are on time, a tenth less when they are not."""
    late = window.rtt is not None and target is not None and window.rtt > target
    if window.dropped or late:
        return _step(limit, limit * 0.9)
    return limit + 1 if in_use(limit, window) else limit


def vegas(limit: float, window: Window, baseline: float) -> float:
    """Return the next limit: it keeps the number of calls that queue at the server between two bounds."""
    if window.rtt is None or not in_use(limit, window):
        return limit
    queue = limit * (1 - min(1.0, baseline / window.rtt))
    if queue < max(1.0, limit / 20):
        return _step(limit, limit + max(1.0, limit / 20))
    if queue > max(2.0, limit / 8):
        return _step(limit, limit * 0.9)
    return limit


def gradient2(limit: float, window: Window, baseline: float) -> float:
    """Return the next limit: it shrinks as latency grows beyond the baseline, and leaves room for a small queue."""
    if window.rtt is None or not in_use(limit, window):
        return limit
    gradient = max(0.5, min(1.0, _TOLERANCE * baseline / window.rtt)) if window.rtt > 0 else 1.0
    return _step(limit, limit * gradient + max(1.0, math.sqrt(limit) / 4))


def in_use(limit: float, window: Window) -> bool:
    """Return whether the window says anything about this limit: at least half of it was in use."""
    return window.in_flight * 2 >= int(limit)


def _step(limit: float, wanted: float) -> float:
    step = max(1.0, limit / 10)
    return max(limit - step, min(limit + step, wanted))
