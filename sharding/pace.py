"""How fast the shards answer, so that a scatter goes in turn or at once, whichever is quicker."""

from __future__ import annotations

__all__ = ["AT_ONCE_ABOVE", "Pace"]

#: Seconds a shard. Below it threads cost more than they save, since loading rows holds the interpreter lock (measured).
AT_ONCE_ABOVE = 0.001

_WEIGHT = 0.25


class Pace:
    """A moving average of the seconds that one shard takes for its part of a scatter.

    Written without a lock: a lost update is a slightly older average.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def record(self, seconds: float) -> None:
        """Take in one measurement, of one shard."""
        self.seconds += (seconds - self.seconds) * _WEIGHT

    @property
    def slow(self) -> bool:
        """Shards are slow enough that asking them at once is worth a thread each."""
        return self.seconds > AT_ONCE_ABOVE
