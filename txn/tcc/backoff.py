"""How long to wait between two passes over the branches of a decided transaction.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backstay.errors import Misuse

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter: the n-th wait is uniform in 0 .. min(cap, first * 2 ** n).

    Args:
        first: seconds, the widest first wait.
        cap: seconds, the widest wait of all.
        attempts: confirms or cancels of one branch until it is DEAD (parked, visible, never forgotten).
    """

    first: float = 0.1
    cap: float = 30.0
    attempts: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.cap:
            raise Misuse(f"a backoff needs 0 < first <= cap, got first={self.first} s and cap={self.cap} s")
        if self.attempts < 1:
            raise Misuse(f"attempts must be >= 1, got {self.attempts}")

    def delay(self, attempts: int, uniform: Callable[[float, float], float]) -> float:
        """Return the seconds to wait after `attempts` failed attempts; `uniform(low, high)` brings the jitter."""
        exponent = min(max(attempts - 1, 0), 60)
        return uniform(0.0, min(self.cap, self.first * 2.0**exponent))
