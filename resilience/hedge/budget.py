"""How many attempts may be added to the calls, so that a slow dependency does not get twice the load (RT-2)."""

from __future__ import annotations

import threading

from ..forks import renew_in_child

__all__ = ["Budget"]

_UNIT = 1_000_000


class Budget:
    """Tokens: each call brings a share of one, each added attempt takes one, at most `floor` are saved up.

    In any row of n calls at most floor + share x n attempts are added (and one where floor is 0, as soon as the
    calls have brought it). Counted in millionths, so that nothing is lost to rounding.
    """

    def __init__(self, share: float, floor: int) -> None:
        self._lock = threading.Lock()
        self._share, self._most = _units(share, floor)
        self._saved = floor * _UNIT
        renew_in_child(self)

    def earn(self) -> None:
        """Note a call."""
        with self._lock:
            saved = self._saved + self._share
            self._saved = min(self._most, saved)

    def spend(self) -> bool:
        """Take the token for one more attempt; False if there is none."""
        with self._lock:
            if self._saved < _UNIT:
                return False
            self._saved -= _UNIT
            return True

    def change(self, share: float, floor: int) -> None:
        """Go on with other numbers; what is saved stays, up to the new floor."""
        share_units, most = _units(share, floor)
        with self._lock:
            self._share, self._most = share_units, most
            if self._saved > most:
                self._saved = most

    def renew(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()


def _units(share: float, floor: int) -> tuple[int, int]:
    """Return the share of a call, and what can be saved: a whole token at least, or a floor of 0 would allow none."""
    return round(share * _UNIT), max(floor, 1) * _UNIT
