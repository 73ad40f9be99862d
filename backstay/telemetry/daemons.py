"""The list of background work: what Backstay runs beside the service's own code, and whether it still runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from backstay.telemetry.references import hold

__all__ = ["Announcement", "Background", "announce", "background", "forget_in_child"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """One piece of background work. `alive` is False when it ended without being stopped: that is a fault."""

    name: str
    alive: bool


class Announcement:
    """An entry in the list of background work, until it is closed."""

    __slots__ = ("_alive", "name")

    def __init__(self, name: str, alive: Callable[[], bool]) -> None:
        self.name = name
        self._alive: Callable[[], Callable[[], bool] | None] = hold(alive)

    def close(self) -> None:
        """Take the entry off the list: the work was stopped on purpose."""
        with _guard.lock:
            if self in _announced:
                _announced.remove(self)

    def look(self) -> Background | None:
        """Return the entry's state, or None once the owner of the work is gone."""
        alive = self._alive()
        if alive is None:
            return None
        try:
            return Background(name=self.name, alive=bool(alive()))
        except Exception:  # work that cannot say that it lives is not known to live
            return Background(name=self.name, alive=False)


class _Guard:
    """The lock of the list, in a place where a forked child can replace it."""

    lock = threading.Lock()


_MOST = 200
"""Entries above which dead ones are dropped."""

_guard = _Guard()
_announced: list[Announcement] = []


def announce(name: str, alive: Callable[[], bool]) -> Announcement:
    """Put background work on the list.

    Args:
        name: what an operator sees, such as `backstay-keeper`.
        alive: says whether the work runs, such as a thread's `is_alive`. A bound method does not keep its
            object alive; the entry goes with it.
    """
    announcement = Announcement(name, alive)
    with _guard.lock:
        _announced[:] = [entry for entry in _announced if entry.look() is not None]
        if len(_announced) >= _MOST:  # work that dies again and again must not fill the memory with its names
            _announced[:] = [entry for entry in _announced if (state := entry.look()) and state.alive]
        _announced.append(announcement)
    return announcement


def background() -> tuple[Background, ...]:
    """Return all background work of this process, in the order in which it was started."""
    states = [entry.look() for entry in tuple(_announced)]
    return tuple(state for state in states if state is not None)


def forget_in_child() -> None:
    """Empty the list: none of the parent's threads exists in a forked child."""
    _guard.lock = threading.Lock()  # the old one may be held by a thread that does not exist here
    _announced.clear()
