"""What a forked child has to make anew: locks that a thread of the parent may hold, sockets, threads."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Renewable", "renew_in_child"]


class Renewable(Protocol):
    """Something that does not survive a fork as it is."""

    def renew(self) -> None:
        """Make it usable in the child. Only the forking thread exists; no lock may be awaited."""
        ...


_known: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_child(subject: Renewable) -> None:
    """Have `subject.renew()` called in every child forked from now on, as long as it lives."""
    _known.add(subject)


def _renew_all() -> None:
    for subject in tuple(_known):
        subject.renew()


if hasattr(os, "register_at_fork"):  # hooks cannot be removed: one for the package
    os.register_at_fork(after_in_child=_renew_all)
