"""What can be set on a system guard, also while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backstay.errors import Misuse

from ..policy import fraction, from_mapping, seconds

__all__ = ["GuardSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """From which load on calls are refused.

    Attributes:
        max_cpu: part of the processors that this process may run on which it may use, above 0 and at most 1.
        max_lag: seconds that an event loop may be late.
        sheddable_share: sheddable calls are refused from this part of the two on.
        critical_share: critical calls are refused from this multiple of the two on, at least 1.

    Raises:
        Misuse: a value is out of range.
    """

    max_cpu: float = 0.85
    max_lag: float = 0.1
    sheddable_share: float = 0.8
    critical_share: float = 1.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_cpu", fraction(self.max_cpu, "max_cpu"))
        object.__setattr__(self, "max_lag", seconds(self.max_lag, "max_lag"))
        object.__setattr__(self, "sheddable_share", fraction(self.sheddable_share, "sheddable_share"))
        object.__setattr__(self, "critical_share", seconds(self.critical_share, "critical_share"))
        if self.critical_share < 1:
            raise Misuse(f"critical_share must be at least 1, got {self.critical_share}")

    @classmethod
    def of(cls, value: GuardSettings | Mapping[str, Any] | float | bool) -> GuardSettings:
        """Return the settings that `value` stands for: settings, a mapping, the highest CPU share, or True.

        Raises:
            Misuse: it is none of these, or a value is out of range.
        """
        if isinstance(value, GuardSettings):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, value, "system guard")
        if value is True:
            return cls()
        given: Any = value
        if isinstance(given, float):
            return cls(max_cpu=given)
        raise Misuse(f"a system guard takes True, a share of the CPU, a mapping or GuardSettings, got {given!r}")
