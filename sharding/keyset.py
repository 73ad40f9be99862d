"""Which sharding keys a predicate lets through: a lattice that may be too wide, never too narrow (R1).

A `KeySet` is a set of single keys together with closed integer intervals; `EVERY` is the interval without ends.
AND intersects, OR unites, and what is not understood is `EVERY`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .slots import Key

__all__ = ["EVERY", "NONE", "KeySet", "points", "span"]

Interval = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class KeySet:
    """Single keys, and closed intervals of integer keys; an end of None is open to infinity."""

    points: frozenset[Key] = frozenset()
    spans: tuple[Interval, ...] = ()

    def __and__(self, other: KeySet) -> KeySet:
        kept = {key for key in self.points if key in other} | {key for key in other.points if key in self}
        spans = [both for a in self.spans for b in other.spans if (both := _overlap(a, b)) is not None]
        return KeySet(frozenset(kept), tuple(dict.fromkeys(spans)))

    def __or__(self, other: KeySet) -> KeySet:
        return KeySet(self.points | other.points, tuple(dict.fromkeys(self.spans + other.spans)))

    def __contains__(self, key: Key) -> bool:
        return key in self.points or any(_inside(key, span) for span in self.spans)

    @property
    def empty(self) -> bool:
        """No key passes."""
        return not self.points and not self.spans

    def members(self, at_most: int) -> Iterator[Key] | None:
        """All keys in turn, or None where the intervals hold more than `at_most` keys."""
        size = 0
        for low, high in self.spans:
            if low is None or high is None:
                return None
            size += high - low + 1
        if size > at_most:
            return None
        return self._walk()

    def _walk(self) -> Iterator[Key]:
        yield from self.points
        for low, high in self.spans:
            if low is not None and high is not None:
                yield from range(low, high + 1)


NONE: Final = KeySet()
EVERY: Final = KeySet(spans=((None, None),))


def points(*keys: Key) -> KeySet:
    """The set of exactly these canonical keys."""
    return KeySet(frozenset(keys))


def span(low: int | None, high: int | None) -> KeySet:
    """The closed interval; empty where it ends before it begins."""
    if low is not None and high is not None and low > high:
        return NONE
    return KeySet(spans=((low, high),))


def _inside(key: Key, interval: Interval) -> bool:
    low, high = interval
    if low is None and high is None:
        return True
    if not isinstance(key, int):
        return False
    return (low is None or low <= key) and (high is None or key <= high)


def _overlap(a: Interval, b: Interval) -> Interval | None:
    lows = [low for low in (a[0], b[0]) if low is not None]
    highs = [high for high in (a[1], b[1]) if high is not None]
    low, high = max(lows, default=None), min(highs, default=None)
    return None if low is not None and high is not None and low > high else (low, high)
