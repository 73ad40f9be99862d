"""What a call takes when nothing queues: the measure that latency is held against.

A baseline that learns from every window follows its own queue: the limit grows, calls take longer, and longer
becomes normal. So it rises only by what was seen in calm: less than half of the limit in use, by itself or because
a probe lowered the limit for a window. Downwards it follows slowly, so that one lucky window means little.
"""

from __future__ import annotations

from .window import Window

__all__ = ["Baseline"]

_LEARN = 0.3
PROBE_AFTER = 60
"""Windows without a calm one after which a probe makes one."""


class Baseline:
    """The latency without a queue, in seconds; None until a window was seen."""

    __slots__ = ("_busy", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self._busy = 0

    @property
    def stale(self) -> bool:
        """Whether it was long ago that calm was seen, so that a probe is due."""
        return self._busy >= PROBE_AFTER

    def observe(self, window: Window, *, calm: bool, probe: bool = False) -> None:
        """Learn from a window."""
        if window.rtt is None:
            return
        self._busy = 0 if calm or probe else self._busy + 1
        if self.value is None or probe:
            self.value = window.rtt
        elif calm or window.rtt < self.value:
            self.value += _LEARN * (window.rtt - self.value)
