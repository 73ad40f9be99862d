"""What can be set on an adaptive limit, also while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backstay.errors import Misuse

from ..policy import fraction, from_mapping, positive_int, seconds

__all__ = ["Algorithm", "ConcurrencySettings"]

Algorithm = Literal["aimd", "gradient2", "vegas"]
_ALGORITHMS = ("aimd", "gradient2", "vegas")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencySettings:
    """How the number of calls at once is found, and within what bounds.

    Attributes:
        algorithm: `gradient2` and `vegas` compare latency with what it is without a queue; `aimd` knows only the
            target and timeouts.
        initial: the limit at first.
        least: the limit is never below this.
        most: the limit is never above this.
        window: seconds between two decisions, at least.
        min_samples: calls that must have ended well for a decision.
        target: for `aimd`: seconds that the median call may take; None to follow timeouts alone.
        default_share: part of the limit that calls without a priority may use.
        sheddable_share: part of the limit that sheddable calls may use.

    Raises:
        Misuse: a value is out of range.
    """

    algorithm: Algorithm = "gradient2"
    initial: int = 20
    least: int = 1
    most: int = 200
    window: float = 1.0
    min_samples: int = 10
    target: float | None = None
    default_share: float = 0.9
    sheddable_share: float = 0.7

    def __post_init__(self) -> None:
        if self.algorithm not in _ALGORITHMS:
            raise Misuse(f"algorithm must be one of {', '.join(_ALGORITHMS)}, got {self.algorithm!r}")
        for name in ("initial", "least", "most", "min_samples"):
            positive_int(getattr(self, name), name)
        if not self.least <= self.initial <= self.most:
            raise Misuse(f"least <= initial <= most must hold, got {self.least}, {self.initial}, {self.most}")
        object.__setattr__(self, "window", seconds(self.window, "window"))
        if self.target is not None:
            object.__setattr__(self, "target", seconds(self.target, "target"))
        for name in ("default_share", "sheddable_share"):
            object.__setattr__(self, name, fraction(getattr(self, name), name))
        if self.sheddable_share > self.default_share:
            raise Misuse(
                f"sheddable_share must not be above default_share, got {self.sheddable_share} and {self.default_share}"
            )

    @classmethod
    def of(cls, value: ConcurrencySettings | Mapping[str, Any] | str | bool) -> ConcurrencySettings:
        """Return the settings that `value` stands for: settings, a mapping, the name of an algorithm, or True.

        Raises:
            Misuse: it is none of these, or a value is out of range.
        """
        if isinstance(value, ConcurrencySettings):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, value, "concurrency limit")
        if value is True:
            return cls()
        given: Any = value
        if isinstance(given, str):
            return cls(algorithm=given)  # type: ignore[arg-type]  # checked by the class
        raise Misuse(
            f"a concurrency limit takes the name of an algorithm, a mapping or ConcurrencySettings, got {given!r}"
        )
