"""The arithmetic of the sliding window: pure, `now` is an argument, all numbers are whole ticks.

A call that was admitted at `s` is noted at the last tick of its slot, and forgotten a period after that. So it counts
for at least a period, and for at most a period and a slot.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from backstay.errors import Misuse

from ..decision import Decision
from ..rate import Rate, Scale

__all__ = ["SLOTS", "Entries", "Law", "Stand"]

SLOTS = 20
"""Slots a period: the error is a twentieth of it."""

Entries: TypeAlias = "deque[tuple[int, int]]"
"""(last tick of a slot, tokens admitted in it), oldest first."""


class Stand(int):
    """A balance of the port `Buckets` (above 0: admitted; below: the ticks to wait), and how the window stands."""

    remaining: int
    reset: int

    @classmethod
    def of(cls, balance: int, remaining: int, reset: int) -> Stand:
        """Return a balance, the tokens that are left, and the ticks until all are there again."""
        stand = cls(balance)
        stand.remaining, stand.reset = remaining, reset
        return stand


class Law:
    """One rate as a window, in ticks of `1 / per_second` seconds.

    Args:
        rate: `count` in any `period`. It has no burst: a window admits `count` at once.
        per_second: ticks a second, a multiple of a million.

    Raises:
        Misuse: the rate has a burst of its own.
    """

    __slots__ = ("count", "period", "rate", "scale", "slot")

    def __init__(self, rate: Rate, per_second: int) -> None:
        if rate.capacity != rate.count:
            raise Misuse(
                f"rate {rate}: a sliding window has no burst, it admits {rate.count} in any period; "
                "leave the burst out, or use algorithm='token-bucket'"
            )
        self.rate = rate
        self.count = rate.count
        self.period = rate.period_us * (per_second // 1_000_000)
        self.slot = -(-self.period // SLOTS)  # up: the slots of a period cover it
        self.scale = Scale(second=per_second, token=1, window=rate.count)

    def admit(self, entries: Entries, now: int, cost: int) -> Stand:
        """Note `cost` tokens, `count` at most, in `entries` if there is room for them, and forget what is over."""
        period, count = self.period, self.count
        while entries and entries[0][0] + period <= now:
            entries.popleft()
        used = sum(tokens for _, tokens in entries)
        if used + cost <= count:
            end = now - now % self.slot + self.slot - 1
            if entries and entries[-1][0] >= end:  # or an older reading of the clock came late: it counts for longer
                end, tokens = entries.pop()
                cost_there = tokens + cost
            else:
                cost_there = cost
            entries.append((end, cost_there))
            return Stand.of(1, count - used - cost, end + period - now)
        missing = used + cost - count
        freed = now
        for end, tokens in entries:
            missing -= tokens
            freed = end + period
            if missing <= 0:
                break
        return Stand.of(now - freed, count - used, entries[-1][0] + period - now)

    def decide(self, balance: int, cost: int) -> Decision:
        """Return the decision that a balance stands for."""
        second = self.scale.second
        if not isinstance(balance, Stand):  # no room for another key
            return Decision(
                allowed=False, retry_after=1.0, remaining=0, reset_after=1.0, limit=self.rate, result="limited"
            )
        return Decision(
            allowed=balance > 0,
            retry_after=0.0 if balance > 0 else -int(balance) / second,
            remaining=balance.remaining,
            reset_after=balance.reset / second,
            limit=self.rate,
            result="acquired" if balance > 0 else "limited",
        )
