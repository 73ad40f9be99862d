"""How often a plane looks, how long it waits, and when it says that something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backstay.errors import Misuse

from .backoff import Backoff

__all__ = ["Pace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times of a plane, in seconds.

    Args:
        pull_interval: without any push a change arrives within this; looks come after 0.8 to 1.0 of it (SW-4).
        grace: how long failing looks count as `stale` before they count as `error` (SW-5).
        init_timeout: for which the start waits for the source (SW-7).
        first_retry: ceiling of the first pause after a failure; each later one doubles it, with full jitter.
        longest_retry: ceiling of all pauses; below `grace`, so that a source which is back is found in time.

    Raises:
        Misuse: one of them is out of its range.
    """

    pull_interval: float = 30.0
    grace: float = 30.0
    init_timeout: float = 3.0
    first_retry: float = 1.0
    longest_retry: float = 10.0

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("pull_interval", 0.01, 3600.0),
            ("grace", 0.01, 86_400.0),
            ("init_timeout", 0.0, 600.0),
            ("first_retry", 0.001, 600.0),
            ("longest_retry", 0.001, 3600.0),
        ):
            value: object = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not lowest <= value <= highest:
                raise Misuse(f"{name} must be from {lowest:g} to {highest:g} s, got {value!r}")
        if self.longest_retry >= self.grace:
            raise Misuse(
                f"longest_retry ({self.longest_retry:g} s) must be below grace ({self.grace:g} s): otherwise a source "
                "that is back for long still counts as an error"
            )

    @property
    def lag(self) -> float:
        """Seconds within which a healthy plane has looked; beyond them nobody looks any more."""
        return self.pull_interval + max(5.0, self.pull_interval)

    @property
    def listening(self) -> float:
        """Seconds between two looks whether a push still lives."""
        return min(1.0, self.pull_interval)

    def backoff(self, chance: Callable[[float, float], float]) -> Backoff:
        """Return the pauses after failures; none is longer than the pull interval."""
        most = min(self.longest_retry, self.pull_interval)
        return Backoff(first=min(self.first_retry, most), most=most, chance=chance)
