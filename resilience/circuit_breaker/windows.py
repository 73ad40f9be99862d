"""What a closed breaker looks back at: failures in a row, the last calls, or the last seconds.

Each window is an *episode*: one stay of the breaker in one state. A call writes its result into the episode in
which it began; a transition puts another episode in its place, so that a late result lands in a dead one (CB-6).

A success takes no lock. It is written by the wrappers (`guard.py`) by `+=` of a constant, `list.clear` and
`deque.append`, which lose nothing between threads while there is a GIL; where there is none, `path` sends all
calls through `record`. `record` is called under the breaker's lock.

A rate can rise without a failure: when a success makes the calls reach `minimum_calls`, and when a bucket of
successes leaves the window. So a success goes through `record` in these two cases, and only in them.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from .settings import BreakerSettings
from .states import Cause, State

__all__ = [
    "BY_CALLS",
    "BY_TIME",
    "BY_TIME_MEASURED",
    "IN_A_ROW",
    "REFUSING",
    "UNHURRIED",
    "Calls",
    "Episode",
    "InARow",
    "Seconds",
    "Totals",
    "window_of",
]

UNHURRIED: Final = 0
IN_A_ROW: Final = 1
BY_TIME: Final = 2
BY_TIME_MEASURED: Final = 3
BY_CALLS: Final = 4
REFUSING: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a window or a round of probes holds."""

    calls: int = 0
    failures: int = 0
    slow: int = 0


class Episode(Protocol):
    """One stay in one state."""

    state: State
    path: int
    """Which lines of the wrappers serve it."""

    def record(self, failed: bool, slow: bool, now: float, permit: object) -> Cause | None:
        """Note a result, under the lock; return what it leads to."""
        ...

    def give_back(self, permit: object) -> None:
        """Take a call back that says nothing. Takes no lock: it may run in a collector's finaliser."""
        ...

    def totals(self, now: float) -> Totals:
        """Return what it holds, under the lock."""
        ...

    def adapt(self, settings: BreakerSettings, now: float) -> Episode:
        """Return the episode to go on with under other settings, under the lock."""
        ...


def _quick(path: int) -> int:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return path if enabled is None or enabled() else UNHURRIED


def window_of(settings: BreakerSettings, state: State, now: float) -> Episode:
    """Return an empty window."""
    if settings.consecutive is not None:
        return InARow(settings, state)
    return Calls(settings, state) if settings.last_calls is not None else Seconds(settings, state, now)


def _judged(settings: BreakerSettings, totals: Totals) -> Cause | None:
    if totals.calls < settings.minimum_calls:
        return None
    failing, slow = settings.reached(totals.failures, totals.slow, totals.calls)
    return Cause.FAILURE_RATE if failing else Cause.SLOW_RATE if slow else None


class InARow:
    """Failures since the last success."""

    __slots__ = ("path", "settings", "state", "streak")

    def __init__(self, settings: BreakerSettings, state: State) -> None:
        self.state = state
        self.settings = settings
        self.path = _quick(IN_A_ROW)
        self.streak: list[None] = []  # a list, since `clear` and `append` lose nothing to each other

    def record(self, failed: bool, slow: bool, now: float, permit: object) -> Cause | None:
        if not failed:
            self.streak.clear()
            return None
        limit = self.settings.consecutive or 1
        if len(self.streak) < limit:
            self.streak.append(None)
        return Cause.CONSECUTIVE if len(self.streak) >= limit else None

    def give_back(self, permit: object) -> None:
        return

    def totals(self, now: float) -> Totals:
        failures = len(self.streak)
        return Totals(calls=failures, failures=failures)

    def adapt(self, settings: BreakerSettings, now: float) -> Episode:
        if settings.consecutive is None:
            return window_of(settings, self.state, now)
        self.settings = settings
        return self


_SUCCESS, _FAILURE, _SLOW, _SLOW_FAILURE = range(4)


class Calls:
    """The last calls."""

    __slots__ = ("append", "path", "results", "settings", "state", "watch")

    def __init__(self, settings: BreakerSettings, state: State, results: tuple[int, ...] = ()) -> None:
        self.state = state
        self.settings = settings
        self.results = deque(results, maxlen=settings.last_calls)
        self.append = self.results.append
        self.watch = bool(results)
        """Whether a success may open: failures are there, and calls are still too few."""
        self.path = _quick(BY_CALLS) if settings.slow_after is None else UNHURRIED

    def record(self, failed: bool, slow: bool, now: float, permit: object) -> Cause | None:
        self.results.append(_FAILURE * failed + _SLOW * slow)
        return self.look(now)

    def look(self, now: float) -> Cause | None:
        totals, settings = self.totals(now), self.settings
        self.watch = totals.calls < settings.minimum_calls and totals.failures + totals.slow > 0
        return _judged(settings, totals)

    def give_back(self, permit: object) -> None:
        return

    def totals(self, now: float) -> Totals:
        count = self.results.count  # in C and at once, so that it agrees with itself beside quick successes
        both = count(_SLOW_FAILURE)
        return Totals(calls=len(self.results), failures=count(_FAILURE) + both, slow=count(_SLOW) + both)

    def adapt(self, settings: BreakerSettings, now: float) -> Episode:
        if settings.last_calls is None:
            return window_of(settings, self.state, now)
        return Calls(settings, self.state, tuple(self.results))


class _Bucket:
    """One second. `ok` is written without a lock, the others under it."""

    __slots__ = ("bad", "end", "ok", "second", "slow")

    def __init__(self, second: int) -> None:
        self.second = second
        self.end = second + 1.0
        """Until when a success may be written here without a look at the window; 0 sends each to `record`."""
        self.ok = 0
        self.bad = 0
        self.slow = 0


class Seconds:
    """The last seconds, in buckets of one. A bucket is never used for a second second."""

    __slots__ = ("bucket", "older", "path", "settings", "slow_from", "state")

    def __init__(self, settings: BreakerSettings, state: State, now: float) -> None:
        self.state = state
        self.bucket = _Bucket(math.floor(now))
        self.older: deque[_Bucket] = deque()
        self._take(settings)

    def _take(self, settings: BreakerSettings) -> None:
        self.settings = settings
        self.slow_from = settings.slow_from
        self.path = _quick(BY_TIME if settings.slow_after is None else BY_TIME_MEASURED)

    def record(self, failed: bool, slow: bool, now: float, permit: object) -> Cause | None:
        bucket = self._at(now)
        if failed:
            bucket.bad += 1
        else:
            bucket.ok += 1
        if slow:
            bucket.slow += 1
        totals, settings = self._sum(bucket.second), self.settings
        watch = totals.calls < settings.minimum_calls and totals.failures + totals.slow > 0
        bucket.end = 0.0 if watch else bucket.second + 1.0
        return _judged(settings, totals)

    def _at(self, now: float) -> _Bucket:
        bucket = self.bucket
        second = math.floor(now)
        if second <= bucket.second:  # or before: the clock was read before the lock was taken
            return bucket
        self.older.append(bucket)
        self._forget(second)
        self.bucket = bucket = _Bucket(second)
        return bucket

    def _forget(self, second: int) -> None:
        first = second - self.settings.span
        while self.older and self.older[0].second <= first:
            self.older.popleft()

    def _sum(self, second: int) -> Totals:
        first = second - self.settings.span
        held = [bucket for bucket in (*self.older, self.bucket) if bucket.second > first]
        failures = sum(bucket.bad for bucket in held)
        return Totals(
            calls=failures + sum(bucket.ok for bucket in held),
            failures=failures,
            slow=sum(bucket.slow for bucket in held),
        )

    def give_back(self, permit: object) -> None:
        return

    def totals(self, now: float) -> Totals:
        return self._sum(max(self.bucket.second, math.floor(now)))

    def adapt(self, settings: BreakerSettings, now: float) -> Episode:
        if settings.consecutive is not None or settings.last_calls is not None:
            return window_of(settings, self.state, now)
        self._take(settings)
        self.bucket.end = 0.0  # the next record, a success as well, is judged by the new settings
        return self
