"""Pauses between attempts that fail: full jitter under a ceiling that doubles (SW-5, SW-10)."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Pauses for one client. Each is drawn evenly from nothing to the ceiling, so that clients which lost the same
    server at the same moment come back spread over it.

    Args:
        first: seconds of the first ceiling.
        most: seconds that no ceiling exceeds.
        chance: `uniform(low, high)`.
    """

    def __init__(self, *, first: float, most: float, chance: Callable[[float, float], float]) -> None:
        self.first = first
        self.most = most
        self._chance = chance
        self._failures = 0

    def pause(self) -> float:
        """Return the seconds to wait after one more failure."""
        ceiling = min(self.most, self.first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return self._chance(0.0, ceiling)

    def reset(self) -> None:
        """Begin again with the first ceiling: an attempt has succeeded."""
        self._failures = 0
