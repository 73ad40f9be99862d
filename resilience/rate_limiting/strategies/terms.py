"""An item of `limits` as a bucket: what the script is asked, and what a balance means. Pure.

An item has no burst, so its bucket holds `amount` tokens.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache

from limits.limits import RateLimitItem
from limits.util import WindowStats

from ..rate import Rate, Scale

__all__ = ["SUFFIX", "Terms", "key_of", "stats", "terms_of"]

SUFFIX = "/backstay-token-bucket/1"
"""Ends every key: other strategies keep counters and lists under the item's own key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One rate in both its units."""

    rate: Rate
    scale: Scale

    def arguments(self, cost: int) -> list[int]:
        """Return the script's arguments for `cost` tokens, on the server's clock and without a last moment."""
        whole, rest = self.rate.split(cost)
        window, window_rest = self.rate.split(self.rate.capacity)
        return [whole, rest, window, window_rest, self.rate.count, 0, 0]

    def distance(self, answer: list[int], cost: int) -> int:
        """Return how far from full the bucket was before `cost` was asked for, in ticks of `scale`."""
        _, tat, rem, now = answer
        return (tat - now) * self.rate.count + rem - cost * self.scale.token


@lru_cache(maxsize=1000)
def terms_of(amount: int, expiry: int) -> Terms:
    """Return the terms of `amount` tokens every `expiry` seconds on Redis."""
    rate = Rate(count=amount, period=float(expiry))
    return Terms(rate=rate, scale=rate.server)


def key_of(item: RateLimitItem, identifiers: tuple[str, ...]) -> str:
    """Return the bucket's key."""
    return item.key_for(*identifiers) + SUFFIX


def stats(distance: int, scale: Scale) -> WindowStats:
    """Return how many whole tokens are left and when the next one comes: now, if the bucket is full.

    The moment is rounded up to a whole second, since Flask-Limiter and slowapi cut what is left of it down, and
    `Retry-After: 0` would send clients into a loop (RL-12). It is on the wall clock, and only for display.
    """
    level = scale.window - distance
    wait = (scale.token - level % scale.token) / scale.second if distance > 0 else 0.0
    return WindowStats(math.ceil(time.time_ns() / 1_000_000_000 + wait), level // scale.token)
