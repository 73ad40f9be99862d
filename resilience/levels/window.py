"""Outcomes of the last seconds, counted in slots of a second. Pure: `now` is an argument."""

from __future__ import annotations

from typing import Final

__all__ = ["ERROR", "FULL", "LIMITED", "OK", "TIMEOUT", "Counts", "Window"]

OK: Final = 1
ERROR: Final = 2
TIMEOUT: Final = 3
LIMITED: Final = 4
FULL: Final = 5

Counts = tuple[int, int, int, int, int]
"""Successes, errors that were no timeouts, timeouts, calls refused by limits, calls refused by full bulkheads."""


class Window:
    """Counts of a sliding window; the caller holds a lock around `sums` and `add`."""

    __slots__ = ("slots", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.slots: list[list[int]] = [[-1, 0, 0, 0, 0, 0] for _ in range(width)]

    def add(self, now: float, outcome: int) -> None:
        """Count an outcome."""
        second = int(now)
        slot = self.slots[second % self.width]
        if slot[0] != second:
            slot[:] = (second, 0, 0, 0, 0, 0)
        slot[outcome] += 1

    def sums(self, now: float) -> Counts:
        """Return what was counted in the last `width` seconds."""
        second = int(now)
        oldest = second - self.width
        live = [slot for slot in self.slots if oldest < slot[0] <= second]
        ok, error, timeout, limited, full = (sum(slot[index] for slot in live) for index in range(1, 6))
        return ok, error, timeout, limited, full

    def resized(self, width: int) -> Window:
        """Return a window of another width that holds what still fits."""
        other = Window(width)
        for slot in sorted(self.slots):
            if slot[0] >= 0:
                other.slots[slot[0] % width] = list(slot)
        return other
