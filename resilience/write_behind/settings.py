"""How long answers are remembered, how much may wait, and how safe an accepted operation is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from backstay.errors import Misuse

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one write-behind, the same in every process.

    Args:
        remember: seconds for which the answer to an operation id is kept, from the moment at which the operation is
            in the database; until then it is kept in any case.
        most_pending: accepted operations that may wait for the database; more are refused.
        replicas: how many replicas of Redis must have an operation before it counts as done (WAIT).
        replicas_within: seconds for that.
        patience: seconds for one exchange with the cache.
        eviction: `refuse` a Redis that may evict keys, or `allow` it.
        carry: how many of the latest answers of the database are taken over with its balances.
    """

    remember: float = 86_400.0
    most_pending: int = 1_000_000
    replicas: int = 0
    replicas_within: float = 1.0
    patience: float = 2.0
    eviction: str = "refuse"
    carry: int = 100_000

    def __post_init__(self) -> None:
        for what in ("remember", "replicas_within", "patience"):
            given: Any = getattr(self, what)
            if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
                raise Misuse(f"{what} must be > 0 s, got {given!r}")
        for what, least in (("most_pending", 1), ("replicas", 0), ("carry", 0)):
            number: Any = getattr(self, what)
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise Misuse(f"{what} must be a whole number of at least {least}, got {number!r}")
        if self.remember < 60:
            raise Misuse(f"remember must be at least 60 s, got {self.remember!r}; callers repeat for longer than that")
        if self.replicas and self.replicas_within >= self.patience:
            raise Misuse("replicas_within must be shorter than patience, which bounds the whole exchange")
        if self.eviction not in ("refuse", "allow"):
            raise Misuse(f"eviction must be 'refuse' or 'allow', got {self.eviction!r}")
