"""The cache in the process: the last good answers, negative ones apart from the others."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from ..fallback.cache import LastGood
from ..forks import renew_in_child
from .answer import Found
from .settings import LocalTier, ReadSettings

__all__ = ["LocalCache"]


class LocalCache:
    """Answers by key. Reads take no lock; of two answers the one whose origin was asked later stays.

    An answer that is replaced by one of the other kind, or forgotten, leaves a mark of its moment behind: a slow
    read that began before does not bring it back.
    """

    def __init__(self, tier: LocalTier, settings: ReadSettings, uniform: Callable[[float, float], float]) -> None:
        self._tier = tier
        self._settings = settings
        self._uniform = uniform
        self._good = LastGood(tier.max_entries)
        self._absent = LastGood(tier.max_absent)
        self._lock = threading.Lock()
        self.last = self._good.last
        """Returns what is kept of a positive answer, as (Found, moment), or None."""
        renew_in_child(self)

    def __len__(self) -> int:
        return len(self._good) + len(self._absent)

    def newest(self, key: str) -> Found | None:
        """Return the answer of a key, positive or negative, or None; it may be too old."""
        good, absent = self._good.last(key), self._absent.last(key)
        if good is None or (absent is not None and absent[1] > good[1]):
            good = absent
        return None if good is None else good[0]

    def keep(self, key: str, value: Any, moment: float, *, absent: bool) -> Found:
        """Keep an answer, unless a newer one is kept; return it as it would be found."""
        tier, settings = self._tier, self._settings
        fresh, usable = tier.fresh, tier.max_stale
        if absent:
            fresh, usable = min(fresh, settings.absent_for), min(usable, settings.absent_for)
        early = 1.0 - self._uniform(0.0, settings.jitter)
        found = Found(value, moment, "local_cache", moment + fresh * early, moment + usable, absent)
        home, other = (self._absent, self._good) if absent else (self._good, self._absent)
        with self._lock:
            there = other.last(key)
            if there is not None:
                if there[1] > moment:
                    return found
                other.keep(key, _gone(moment), moment)
            home.keep(key, found, moment)
        return found

    def forget(self, key: str, now: float) -> None:
        """Serve nothing any more that the origin was asked for before now."""
        with self._lock:
            self._good.keep(key, _gone(now), now)
            if self._absent.last(key) is not None:
                self._absent.keep(key, _gone(now), now)

    def renew(self) -> None:
        """Replace the lock in a forked child; the answers stay."""
        self._lock = threading.Lock()


def _gone(moment: float) -> Found:
    return Found(None, moment, "local_cache", -math.inf, -math.inf, False)
