"""What can be set on a bulkhead, also while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backstay.errors import Misuse

from ..policy import from_mapping, positive_int, seconds

__all__ = ["BulkheadSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadSettings:
    """How many calls run at once, and who may wait for a permit.

    Attributes:
        max_concurrent: permits, at least 1.
        max_wait: seconds (or a timedelta) that a call may wait for a permit; 0 refuses at once.
        max_waiting: calls that may wait at the same time; the next one is refused at once.

    Raises:
        Misuse: a value is out of range.
    """

    max_concurrent: int = 8
    max_wait: float = 0.0
    max_waiting: int = 1000

    def __post_init__(self) -> None:
        positive_int(self.max_concurrent, "max_concurrent")
        object.__setattr__(self, "max_wait", seconds(self.max_wait, "max_wait", zero=True))
        positive_int(self.max_waiting, "max_waiting")

    @classmethod
    def of(cls, value: BulkheadSettings | Mapping[str, Any] | int) -> BulkheadSettings:
        """Return the settings that `value` stands for: settings, a mapping of their names, or the number of permits.

        Raises:
            Misuse: it is none of these, or a value is out of range.
        """
        if isinstance(value, BulkheadSettings):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, value, "bulkhead")
        given: Any = value
        if type(given) is int:
            return cls(max_concurrent=given)
        raise Misuse(f"bulkhead takes a number of permits, a mapping or BulkheadSettings, got {given!r}")
