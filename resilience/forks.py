"""What a forked child has to make anew: locks that a thread of the parent may hold, sockets, threads."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

# Hooks run in the order of imports: telemetry's list of background work must be emptied before threads start again.
import backstay.telemetry  # noqa: F401  # pyright: ignore[reportUnusedImport]

__all__ = ["Guard", "Renewable", "renew_in_child"]


class Renewable(Protocol):
    """Something that does not survive a fork as it is."""

    def renew(self) -> None:
        """Make it usable in the child. Only the forking thread exists; no lock may be awaited."""
        ...


class Guard:
    """A lock of a module, in a place where a forked child can replace it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        renew_in_child(self)

    def renew(self) -> None:
        """Replace the lock: a thread of the parent may hold the old one."""
        self.lock = threading.Lock()


_first: weakref.WeakSet[Renewable] = weakref.WeakSet()
_last: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_child(subject: Renewable, *, last: bool = False) -> None:
    """Have `subject.renew()` called in every child forked from now on, as long as it lives.

    Args:
        subject: what to renew.
        last: after all others: for what starts threads, which use the others' locks at once.
    """
    (_last if last else _first).add(subject)


def _renew_all() -> None:
    for subject in (*_first, *_last):
        subject.renew()


if hasattr(os, "register_at_fork"):  # hooks cannot be removed: one for the package
    os.register_at_fork(after_in_child=_renew_all)
