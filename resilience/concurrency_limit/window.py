"""What a window of calls said about the server: values, and no clock."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

__all__ = ["Samples", "Window"]

_MOST = 1000
"""Latencies that one window keeps; later ones take the places of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The calls of one window, in sum.

    Attributes:
        rtt: the median latency, in seconds, which one outlier cannot move; None if no call ended well.
        in_flight: most calls at once.
        dropped: whether a call timed out.
    """

    rtt: float | None
    in_flight: int
    dropped: bool


class Samples:
    """Collects a window. Appending is atomic, so it takes no lock."""

    __slots__ = ("_rtts", "began", "dropped", "in_flight", "seen")

    def __init__(self, began: float) -> None:
        self.began = began
        self.dropped = False
        self.in_flight = 0
        self.seen = 0
        self._rtts: list[float] = []

    def add(self, rtt: float, in_flight: int) -> None:
        """Record a call that ended well, and how many ran when it began."""
        if len(self._rtts) < _MOST:
            self._rtts.append(rtt)
        else:
            self._rtts[self.seen % _MOST] = rtt
        self.seen += 1
        if in_flight > self.in_flight:
            self.in_flight = in_flight

    def drop(self, in_flight: int) -> None:
        """Record a call that timed out: it says that the server is late, but not how late."""
        self.dropped = True
        if in_flight > self.in_flight:
            self.in_flight = in_flight

    def window(self) -> Window:
        """Return what was seen."""
        rtts = list(self._rtts)
        rtt = statistics.median(rtts) if rtts else None
        return Window(rtt=rtt, in_flight=self.in_flight, dropped=self.dropped)
