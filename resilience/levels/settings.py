"""What moves a level, and how fast: can be changed while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from backstay.errors import Misuse

from ..policy import fraction, from_mapping, positive_int, seconds
from .words import Level

__all__ = ["Bands", "LevelSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """The values of one signal at which each level is entered; reached is enough. None never enters that level.

    Args:
        warning: enters WARNING.
        error: enters ERROR.
        severe: enters SEVERE.
        exit: a level is kept until the value is below this share of what entered it; below 1.
    """

    warning: float | None = None
    error: float | None = None
    severe: float | None = None
    exit: float = 0.6

    def __post_init__(self) -> None:
        last = 0.0
        for name in ("warning", "error", "severe"):
            value: Any = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not last < value < float("inf"):
                raise Misuse(f"{name} must be a number above {last:g}, the level below it, or None; got {value!r}")
            last = value
        if fraction(self.exit, "exit") >= 1:
            raise Misuse(f"exit must be below 1, or a level would come and go at one value; got {self.exit!r}")

    def entered(self, value: float) -> Level:
        """Return the highest level that `value` enters."""
        return self._highest(value, 1.0)

    def kept(self, value: float) -> Level:
        """Return the highest level that `value` does not let go of."""
        return self._highest(value, self.exit)

    def _highest(self, value: float, share: float) -> Level:
        for level, enter in ((Level.SEVERE, self.severe), (Level.ERROR, self.error), (Level.WARNING, self.warning)):
            if enter is not None and value >= enter * share:
                return level
        return Level.NORMAL

    @classmethod
    def of(cls, value: Any, what: str) -> Bands:
        """Return bands from themselves or from a document's mapping.

        Raises:
            Misuse: they are neither, or wrong.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, cast("Mapping[str, Any]", value), what)
        raise Misuse(f"{what} must be Bands or a table such as {{warning = 0.05, error = 0.2}}, got {value!r}")


_FIELDS = ("errors", "timeouts", "failures", "limited", "saturation", "breakers", "dependency")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSettings:
    """When a level rises and falls (DG-1, DG-2, DG-3).

    Args:
        errors: bands of the share of calls that failed, timeouts among them.
        timeouts: bands of the share of calls that timed out.
        failures: bands of the number of failed calls in the window; none by default.
        limited: bands of the share of calls that a rate limit refused.
        saturation: bands of the share of bulkhead permits in use, or of calls that found them all in use.
        breakers: bands over 1 for a breaker that is half open and 2 for one that is open.
        dependency: bands over 1 where a required dependency is down.
        window: seconds that are looked back at, whole.
        minimum_calls: calls in the window below which no share raises a level.
        minimum_probes: calls in the window, or successes in a row, from which on a share may lower a level.
        every: seconds between two evaluations.
        confirm: evaluations in a row that must ask for a higher level before it is entered.
        hold: seconds for which all signals must have let go before a level is left.
        dwell: seconds that a level lasts at least before it is left for a lower one.
        probe_share: share of calls that go the real way while others are refused.
        probe_every: seconds after which one call goes the real way, whatever the share.
    """

    errors: Bands = field(default=Bands(warning=0.05, error=0.20, severe=0.50))
    timeouts: Bands = field(default=Bands(warning=0.05, error=0.20, severe=0.50))
    failures: Bands = field(default=Bands())
    limited: Bands = field(default=Bands(warning=0.20))
    saturation: Bands = field(default=Bands(warning=0.90))
    breakers: Bands = field(default=Bands(warning=1, error=2))
    dependency: Bands = field(default=Bands(severe=1))
    window: int = 30
    minimum_calls: int = 20
    minimum_probes: int = 3
    every: float = 1.0
    confirm: int = 3
    hold: float = 10.0
    dwell: float = 10.0
    probe_share: float = 0.01
    probe_every: float = 5.0

    def __post_init__(self) -> None:
        for name in _FIELDS:
            object.__setattr__(self, name, Bands.of(getattr(self, name), name))
        if positive_int(self.window, "window") > 600:
            raise Misuse(f"window must be at most 600 s, got {self.window}")
        for name in ("minimum_calls", "minimum_probes", "confirm"):
            positive_int(getattr(self, name), name)
        for name in ("every", "probe_every"):
            seconds(getattr(self, name), name)
        for name in ("hold", "dwell"):
            seconds(getattr(self, name), name, zero=True)
        fraction(self.probe_share, "probe_share")

    def bands(self, signal: str) -> Bands:
        """Return the bands of a signal by its name."""
        found: Bands = getattr(self, signal)
        return found

    @classmethod
    def of(cls, value: Any) -> LevelSettings:
        """Return settings from themselves or from a document's mapping.

        Raises:
            Misuse: they are neither, or wrong.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, cast("Mapping[str, Any]", value), "levels")
        raise Misuse(f"levels need LevelSettings or a mapping of them, got {value!r}")
