"""How many reads may try an origin again that has failed, while there is an old answer to serve (DG-6)."""

from __future__ import annotations

import threading

from ..forks import renew_in_child

__all__ = ["Permit", "Recovery"]

_GROWN = 16


class Permit:
    """One read's way to the origin."""

    __slots__ = ("counted",)

    def __init__(self, *, counted: bool) -> None:
        self.counted = counted


_FREE = Permit(counted=False)


class Recovery:
    """A slow start: after a failure `least` reads at once, one more for each success, and all of them when that has
    grown sixteenfold.

    Only reads that have something else to serve are held back. Those that have not go to the origin in any case and
    are counted, so that refills give way to them.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._limit = least
        self._running = 0
        self._lock = threading.Lock()
        self.troubled = False
        renew_in_child(self)

    def enter(self, *, can_wait: bool) -> Permit | None:
        """Return a permit to ask the origin, or None for a read that is to serve what it has."""
        if not self.troubled:
            return _FREE
        with self._lock:
            if can_wait and self._running >= self._limit:
                return None
            self._running += 1
            return Permit(counted=True)

    def answered(self, permit: Permit) -> None:
        """Note that the origin answered."""
        if permit is _FREE and not self.troubled:
            return
        with self._lock:
            self._give_back(permit)
            if permit.counted and self.troubled:  # one that began before the trouble says nothing about its end
                self._limit += 1
                self.troubled = self._limit < self._least * _GROWN

    def failed(self, permit: Permit) -> None:
        """Note that the origin failed."""
        with self._lock:
            self._give_back(permit)
            self.troubled = True
            self._limit = self._least

    def left(self, permit: Permit) -> None:
        """Note a read that ended without a word about the origin."""
        with self._lock:
            self._give_back(permit)

    def renew(self) -> None:
        """Begin anew in a forked child, where the parent's reads do not end."""
        self._lock = threading.Lock()
        self._running = 0

    def _give_back(self, permit: Permit) -> None:
        if permit.counted:
            self._running = max(0, self._running - 1)
