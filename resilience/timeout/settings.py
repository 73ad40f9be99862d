"""What can be set about a timeout or a deadline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from backstay.errors import Misuse

from ..policy import from_mapping, seconds

__all__ = ["TimeoutSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSettings:
    """How long a call may take.

    Attributes:
        seconds: from its beginning, above 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", seconds(self.seconds, "timeout"))

    @classmethod
    def of(cls, value: Any) -> TimeoutSettings:
        """Return settings from settings, a mapping, or seconds as a number or a timedelta.

        Raises:
            Misuse: it is none of them, or out of range.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, cast("Mapping[str, Any]", value), "timeout")
        if isinstance(value, int | float | timedelta):
            return cls(seconds=value)  # type: ignore[arg-type]  # the check makes seconds of a timedelta
        raise Misuse(f"a timeout is seconds, a timedelta or {{'seconds': 2.0}}, got {value!r}")
