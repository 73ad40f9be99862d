"""A clock that moves when the test says so."""

from __future__ import annotations

import threading

from backstay.errors import Misuse

__all__ = ["ManualClock"]

_NANO = 1_000_000_000


class ManualClock:
    """A monotonic clock under the test's hand, wherever a `Clock` is wanted: `RateLimiter(..., clock=ManualClock())`.

    It counts whole nanoseconds, so that a thousand advances by a millisecond make exactly a second.
    Several threads may read and advance it.

    Args:
        start: seconds that it shows at first; not 0 by default, since code that takes 0 for "never" must fail.
    """

    __slots__ = ("_lock", "_now")

    def __init__(self, start: float = 1000.0) -> None:
        self._now = round(start * _NANO)
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self._now / _NANO

    def __repr__(self) -> str:
        return f"ManualClock({self():g})"

    def now(self) -> float:
        """Return seconds."""
        return self()

    def now_ns(self) -> int:
        """Return nanoseconds, for code that counts in integers."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass and return the new time.

        Raises:
            Misuse: `seconds` is negative or no number; a monotonic clock does not go back.
        """
        if not seconds >= 0:
            raise Misuse(f"a monotonic clock moves forward only; cannot advance it by {seconds!r} s")
        with self._lock:
            self._now += round(seconds * _NANO)
        return self()
