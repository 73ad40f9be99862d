"""What the library counted while a block ran."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from backstay import telemetry
from backstay.telemetry import Snapshot
from backstay.telemetry.naming import AttributeValue

__all__ = ["Measured", "measured"]


class Measured:
    """Counts since the start of a `measured()` block; reads live inside it and stands still after it."""

    __slots__ = ("_before", "_ended")

    def __init__(self) -> None:
        self._before = telemetry.snapshot()
        self._ended: Snapshot | None = None

    def count(self, name: str, **attributes: AttributeValue) -> float:
        """Return by how much a counter rose, or how many values a histogram took; 0 where there is none."""
        return self._now().value(name, **attributes) - self._before.value(name, **attributes)

    def seconds(self, name: str, **attributes: AttributeValue) -> float:
        """Return by how much the sum of a duration histogram rose."""
        return self._now().seconds(name, **attributes) - self._before.seconds(name, **attributes)

    def value(self, name: str, **attributes: AttributeValue) -> float:
        """Return what a gauge reads, as it is and not as a difference."""
        return self._now().value(name, **attributes)

    def stop(self) -> None:
        """Stand still from now on."""
        self._ended = telemetry.snapshot()

    def _now(self) -> Snapshot:
        return self._ended or telemetry.snapshot()


@contextmanager
def measured() -> Generator[Measured]:
    """Measure what a block counts, whatever was counted before it.

    with measured() as counts:
        limiter.acquire()
    assert counts.count("rate_limiter.requests", result="acquired") == 1
    """
    counts = Measured()
    try:
        yield counts
    finally:
        counts.stop()
