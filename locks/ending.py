"""What an ending interpreter does with the locks that it still holds (criterion O6)."""

from __future__ import annotations

import atexit
import weakref
from typing import Protocol

from .leases.loss import wait_for_listeners

__all__ = ["Open", "forget", "watch"]

LISTENERS_AT_EXIT = 1.0  # s that an ending interpreter waits for those who are being told of a loss


class Open(Protocol):
    """Locks that may hold leases."""

    def close(self) -> None:
        """Give back every lease."""
        ...


_open: weakref.WeakSet[Open] = weakref.WeakSet()


def watch(locks: Open) -> None:
    """Close `locks` when the interpreter ends, if somebody else keeps them alive until then."""
    _open.add(locks)


def forget(locks: Open) -> None:
    """Leave `locks` alone: they are closed."""
    _open.discard(locks)


def _give_back_at_exit() -> None:
    """Give back what an ending interpreter still holds, rather than let others wait for its ttl (O6)."""
    for locks in tuple(_open):
        locks.close()
    wait_for_listeners(LISTENERS_AT_EXIT)


atexit.register(_give_back_at_exit)
