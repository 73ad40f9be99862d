"""The sliding window: at most so many calls in any stretch of a period's length, wherever it begins.

A token bucket admits its burst and the refill of a period within one period; where a contract says "1,000 in any
hour" and means it, this is the algorithm. It remembers when calls were admitted, to a twentieth of the period:

- never more than `count` in any stretch as long as the period (no error at all on this side);
- a call is forgotten at most one slot, that is a twentieth of the period, later than it had to be, so a caller that
  keeps asking gets at least `count` in every 1.05 periods;
- at most 22 pairs of numbers a key, whatever the count is.
"""

from __future__ import annotations

from .law import SLOTS, Law, Stand
from .memory import AsyncSlidingMemory, SlidingMemory

__all__ = ["SLOTS", "AsyncSlidingMemory", "Law", "SlidingMemory", "Stand"]
