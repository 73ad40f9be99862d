"""The recipes that are documents: one text for both faces, which differ only in the classes that they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .lock import Reach
from .options import Duration

__all__ = ["Coordination", "Gatherings"]

L = TypeVar("L")
B = TypeVar("B")

WEEK = 7 * 86400.0  # s


@dataclass(frozen=True, slots=True, kw_only=True)
class Gatherings(Generic[L, B]):
    """What makes the latches and barriers of one colour."""

    latch: Callable[[Reach, str, int, Duration], L]
    barrier: Callable[[Reach, str, int, Duration], B]


class Coordination(Generic[L, B]):
    """The recipes that are a shared document."""

    _gatherings: Gatherings[L, B]

    def _reached(self) -> Reach:
        """Return what finds the protocol."""
        raise NotImplementedError

    def latch(self, name: str, count: int, *, keep: Duration = WEEK) -> L:
        """Return the latch of that name: a gate that opens when `count` has come down to 0; nothing is sent yet.

        Args:
            name: 1 to 512 characters.
            count: what it counts from; the first caller's number goes into the store, and who says another is refused.
            keep: seconds after its latest change for which it is remembered; a store may keep it longer.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._gatherings.latch(self._reached(), name, count, keep)

    def barrier(self, name: str, parties: int, *, keep: Duration = WEEK) -> B:
        """Return the cyclic barrier of that name, which nobody passes before `parties` have come; nothing is sent yet.

        Args:
            name: 1 to 512 characters.
            parties: how many make a round, at most 256; the first caller's number goes into the store, and who says
                another is refused.
            keep: seconds after its latest change for which it is remembered; a store may keep it longer.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._gatherings.barrier(self._reached(), name, parties, keep)
