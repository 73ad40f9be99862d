"""What an operator sees of a breaker."""

from __future__ import annotations

from dataclasses import dataclass

from .settings import BreakerSettings
from .states import State

__all__ = ["Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A breaker at one moment.

    Attributes:
        state: what it does with calls.
        calls: those in the window, or the finished ones of the current round of probes.
        failures: those of them that failed.
        slow: those of them that were slow.
        openings: how often in a row it has opened.
        retry_after: seconds until the first probe, where it is open.
        probes_in_flight: permits that are out.
        settings: those that hold now.
    """

    state: State
    calls: int
    failures: int
    slow: int
    openings: int
    retry_after: float | None
    probes_in_flight: int
    settings: BreakerSettings

    @property
    def failure_rate(self) -> float:
        """The share of failures, 0 without calls."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """The share of slow calls, 0 without calls."""
        return self.slow / self.calls if self.calls else 0.0
