"""Planes over real servers: what they hold, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from backstay.resilience.delivery.envelope import Envelope
from backstay.resilience.delivery.pace import Pace
from backstay.resilience.delivery.plane import Plane
from backstay.resilience.delivery.port import Source

SCOPE = "shop/production"
QUICK = Pace(pull_interval=1.0, grace=3.0, init_timeout=5.0, first_retry=0.1, longest_retry=0.5)
RARE = Pace(pull_interval=60.0, grace=3.0, init_timeout=5.0, first_retry=0.1, longest_retry=0.5)


def document(version: int, *, epoch: int = 1, size: int = 0, scope: str = SCOPE) -> Envelope:
    filling = {f"filling-{number}": {"enabled": True, "reason": "x" * 490} for number in range(size // 500)}
    return Envelope.seal(scope=scope, epoch=epoch, version=version, items={"switches": {"number": version, **filling}})


class _Applying:
    def __init__(self, kept: Kept, section: Mapping[str, Any]) -> None:
        self._kept, self._section = kept, section

    def apply(self) -> None:
        self._kept.numbers.append(self._section.get("number"))
        self._kept.moments.append(time.monotonic())

    def undo(self) -> None:
        self._kept.numbers.pop()
        self._kept.moments.pop()


class Kept:
    """A consumer that keeps which documents it got, and when."""

    section = "switches"

    def __init__(self) -> None:
        self.numbers: list[Any] = []
        self.moments: list[float] = []

    def prepare(self, section: Mapping[str, Any]) -> _Applying:
        return _Applying(self, section)


@contextmanager
def planes(source: Source, pace: Pace) -> Generator[tuple[Plane, Kept]]:
    """A plane at work."""
    kept, plane = Kept(), Plane(source, pace=pace)
    plane.attach(kept)
    plane.start()
    try:
        yield plane, kept
    finally:
        plane.close()


def until(ask: Callable[[], object], within: float = 15.0) -> float:
    """Wait until `ask` holds, and return the seconds that took."""
    began = time.monotonic()
    while not ask():
        assert time.monotonic() - began < within, "it did not become so in time"
        time.sleep(0.005)
    return time.monotonic() - began
