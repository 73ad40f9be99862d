"""A token bucket in fractions: slow, and right by inspection (RL-1)."""

from __future__ import annotations

from fractions import Fraction

from backstay.resilience import Rate


class Oracle:
    """One bucket. Time is in seconds, as a fraction."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.capacity = Fraction(rate.capacity)
        self.per_second = Fraction(rate.count * 1_000_000, rate.period_us)
        self.tokens = self.capacity
        self.at = Fraction(0)

    def charge(self, now: Fraction, cost: int) -> tuple[bool, Fraction]:
        """Return whether it is allowed, and the seconds to wait if it is not."""
        allowed, wait = self.take(now, cost, Fraction(0))
        return allowed, wait if not allowed else Fraction(0)

    def take(self, now: Fraction, cost: int, ahead: Fraction) -> tuple[bool, Fraction]:
        """Return whether the tokens are promised for a moment at most `ahead` seconds away, and how far away it is."""
        self.pass_time(now)
        delay = max(Fraction(0), (cost - self.tokens) / self.per_second)
        if delay > ahead:
            return False, delay - ahead
        self.tokens -= cost
        return True, delay

    def give(self, now: Fraction, cost: int) -> bool:
        """Put tokens back, up to full; return whether it was less than full."""
        self.pass_time(now)
        missing = self.tokens < self.capacity
        self.tokens = min(self.capacity, self.tokens + cost)
        return missing

    def change(self, now: Fraction, rate: Rate, carry: str) -> None:
        """Go over to another rate; full is full, and what is between two microseconds is rounded to later full."""
        self.pass_time(now)
        old_capacity, missing = self.capacity, self.capacity - self.tokens
        self.rate = rate
        self.capacity = Fraction(rate.capacity)
        self.per_second = Fraction(rate.count * 1_000_000, rate.period_us)
        if missing <= 0 or carry == "reset":
            self.tokens = self.capacity
            return
        if carry == "proportional":
            missing = missing * self.capacity / old_capacity
        else:
            missing = max(Fraction(0), missing + self.capacity - old_capacity)
        full_us = -(-(missing / self.per_second * 1_000_000) // 1)
        self.tokens = self.capacity - Fraction(full_us, 1_000_000) * self.per_second

    def pass_time(self, now: Fraction) -> None:
        """Let tokens come in."""
        if now > self.at:
            self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.per_second)
            self.at = now
