"""How long calls took of late, for a delay that follows them."""

from __future__ import annotations

import math
import threading

from ..forks import renew_in_child

__all__ = ["Latencies"]

_KEPT = 256
_EVERY = 16


class Latencies:
    """The last 256 durations. A percentile of them is worked out anew every 16 calls."""

    def __init__(self) -> None:
        self._ring: list[float] = []
        self._count = 0
        self._lock = threading.Lock()
        self._found: tuple[float, float] | None = None
        renew_in_child(self)

    def note(self, seconds: float) -> None:
        """Note how long a call took that was answered."""
        with self._lock:
            if self._count < _KEPT:
                self._ring.append(seconds)
            else:
                self._ring[self._count % _KEPT] = seconds
            self._count += 1
            if self._count % _EVERY == 0:
                self._found = None

    def percentile(self, share: float, minimum_calls: int) -> float | None:
        """Return the duration that `share` of the calls did not exceed; None while too few were seen."""
        with self._lock:
            if self._count < minimum_calls:
                return None
            if self._found is None or self._found[0] != share:
                ordered = sorted(self._ring)
                self._found = (share, ordered[max(0, math.ceil(share * len(ordered)) - 1)])
            return self._found[1]

    def renew(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()
