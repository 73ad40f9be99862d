"""A token bucket in fractions: slow, and right by inspection (RL-1)."""

from __future__ import annotations

from fractions import Fraction

from backstay.resilience import Rate


class Oracle:
    """One bucket. Time is in seconds, as a fraction."""

    def __init__(self, rate: Rate) -> None:
        self.capacity = Fraction(rate.capacity)
        self.per_second = Fraction(rate.count * 1_000_000, rate.period_us)
        self.tokens = self.capacity
        self.at = Fraction(0)

    def charge(self, now: Fraction, cost: int) -> tuple[bool, Fraction]:
        """Return whether it is allowed, and the seconds to wait if it is not."""
        if now > self.at:
            self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.per_second)
            self.at = now
        if self.tokens >= cost:
            self.tokens -= cost
            return True, Fraction(0)
        return False, (cost - self.tokens) / self.per_second
