"""What a breaker can be told, and told anew while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias, TypedDict, cast

from backstay.errors import Misuse

from ..policy import fraction, from_mapping, positive_int, seconds

__all__ = ["BreakerOptions", "BreakerSettings", "OpenFor"]

OpenFor: TypeAlias = "float | timedelta | Sequence[float | timedelta] | Callable[[int], float | timedelta]"
"""Seconds, one for each opening in a row (the last repeats), or a function of how many there have been, from 1."""

_MOST_SECONDS = 600
_MOST_CALLS = 10_000
_WAITS = 32  # openings in a row that are told apart; a function is asked for these once, never under a lock


class BreakerOptions(TypedDict, total=False):
    """The settings as keywords."""

    failure_rate: float
    slow_rate: float | None
    slow_after: float | timedelta | None
    minimum_calls: int
    window: float | timedelta
    last_calls: int | None
    consecutive: int | None
    open_for: OpenFor
    open_growth: float
    open_at_most: float | timedelta
    open_jitter: float
    retry_after: bool
    probes: int
    probe_lease: float | timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a breaker opens, for how long, and how it finds out that it may close.

    Args:
        failure_rate: share of failed calls at which it opens, above 0 and at most 1; reached is enough.
        slow_rate: share of slow calls at which it opens, failed or not; None counts none.
        slow_after: seconds from which on a call is slow.
        minimum_calls: calls in the window below which no rate is looked at.
        window: whole seconds that are looked back at, 1 to 600.
        last_calls: look back at so many calls instead of at seconds, up to 10,000.
        consecutive: open after so many failures in a row instead of at a rate; a success starts anew.
        open_for: seconds that it stays open, or one number for each opening in a row (the last one repeats), or
            a function of that number, from 1, which is asked once for each.
        open_growth: factor from one opening in a row to the next, at least 1.
        open_at_most: seconds that no wait exceeds, whatever asked for it; jitter comes on top.
        open_jitter: each wait is longer by a random share of itself up to this: instances do not probe together.
        retry_after: stay open for at least as long as the error that opened it says (`retry_after`, `Retry-After`).
        probes: calls that are let through, in all, to find out whether to close.
        probe_lease: seconds after which a probe that has not come back makes room for another.
    """

    failure_rate: float = 0.5
    slow_rate: float | None = None
    slow_after: float | timedelta | None = None
    minimum_calls: int = 10
    window: float | timedelta = 10.0
    last_calls: int | None = None
    consecutive: int | None = None
    open_for: OpenFor = 30.0
    open_growth: float = 1.0
    open_at_most: float | timedelta = 300.0
    open_jitter: float = 0.1
    retry_after: bool = True
    probes: int = 3
    probe_lease: float | timedelta = 60.0
    waits: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """Seconds of the first, second, ... opening in a row, without jitter; the last repeats."""
    span: int = field(init=False, repr=False, compare=False)
    """The window in whole seconds."""
    slow_from: float = field(init=False, repr=False, compare=False)
    """Seconds from which on a call is slow; infinite where that is not looked at."""
    longest: float = field(init=False, repr=False, compare=False)
    """Seconds that no wait exceeds."""
    lease: float = field(init=False, repr=False, compare=False)
    """Seconds that a probe's permit lasts."""

    def __post_init__(self) -> None:
        fraction(self.failure_rate, "failure_rate")
        positive_int(self.minimum_calls, "minimum_calls")
        positive_int(self.probes, "probes")
        if type(self.retry_after) is not bool:
            raise Misuse(f"retry_after must be True or False, got {self.retry_after!r}")
        _number(self.open_growth, "open_growth", 1)
        _number(self.open_jitter, "open_jitter", 0)
        self._check_slow()
        self._check_window()
        put = object.__setattr__
        put(self, "slow_from", math.inf if self.slow_after is None else seconds(self.slow_after, "slow_after"))
        put(self, "lease", seconds(self.probe_lease, "probe_lease"))
        put(self, "longest", seconds(self.open_at_most, "open_at_most"))
        put(self, "waits", self._schedule())

    @classmethod
    def of(cls, value: object) -> BreakerSettings:
        """Return settings from settings, a mapping, or True for the defaults.

        Raises:
            Misuse: it is something else, or a setting is wrong.
        """
        if isinstance(value, BreakerSettings):
            return value
        if value is True:
            return cls()
        if isinstance(value, Mapping):
            return from_mapping(cls, cast("Mapping[str, Any]", value), "breaker")
        raise Misuse(f"breaker must be True, a mapping of settings or BreakerSettings, got {value!r}")

    def wait(self, openings: int) -> float:
        """Return the seconds of the `openings`-th opening in a row, without jitter."""
        return self.waits[min(openings, len(self.waits)) - 1]

    def reached(self, failures: int, slow: int, calls: int) -> tuple[bool, bool]:
        """Return whether the failure rate and the slow rate are reached among so many calls."""
        return failures / calls >= self.failure_rate, self.slow_rate is not None and slow / calls >= self.slow_rate

    def _check_slow(self) -> None:
        if (self.slow_rate is None) != (self.slow_after is None):
            raise Misuse("slow_rate and slow_after go together: the share of slow calls, and when a call is slow")
        if self.slow_rate is not None:
            fraction(self.slow_rate, "slow_rate")
            if self.consecutive is not None:
                raise Misuse("consecutive counts failures in a row; slow_rate needs a window: leave one of them out")

    def _check_window(self) -> None:
        length = seconds(self.window, "window")
        if not length.is_integer() or not 1 <= length <= _MOST_SECONDS:
            raise Misuse(f"window must be 1 to {_MOST_SECONDS} whole seconds, got {self.window!r}")
        object.__setattr__(self, "span", int(length))
        if self.consecutive is not None:
            positive_int(self.consecutive, "consecutive")
            if self.last_calls is not None:
                raise Misuse("consecutive and last_calls exclude each other: leave one of them out")
        if self.last_calls is not None:
            positive_int(self.last_calls, "last_calls")
            if self.last_calls > _MOST_CALLS:
                raise Misuse(f"last_calls must be at most {_MOST_CALLS}, got {self.last_calls}; use window for more")
            if self.last_calls < self.minimum_calls:
                raise Misuse(
                    f"last_calls={self.last_calls} never holds minimum_calls={self.minimum_calls} calls; "
                    "lower minimum_calls"
                )

    def _schedule(self) -> tuple[float, ...]:
        longest = self.longest
        given: Any = self.open_for
        if callable(given):
            waits = [seconds(given(opening), f"open_for({opening})") for opening in range(1, _WAITS + 1)]
        elif isinstance(given, Sequence) and not isinstance(given, str):
            waits = _waits(given)
        else:
            first = seconds(given, "open_for")
            if first > longest:
                raise Misuse(f"open_for={first:g} exceeds open_at_most={longest:g} s; raise open_at_most")
            waits = [first]
        if not waits:
            raise Misuse("open_for needs at least one wait, got none")
        if self.open_growth > 1:
            while len(waits) < _WAITS and waits[-1] < longest:
                waits.append(waits[-1] * self.open_growth)
        return tuple(min(wait, longest) for wait in waits)


def _waits(given: Any) -> list[float]:
    return [seconds(each, "each wait of open_for") for each in given]


def _number(value: Any, name: str, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 100:
        raise Misuse(f"{name} must be a number from {least} to 100, got {value!r}")
