"""What a forked child must do before it may lock anything (criterion O5).

A child inherits leases, sockets, a keeper whose thread does not exist, and mutexes that a thread of the parent
may have held at that moment. Whoever owns such things registers here; in the child, before any other
Python code runs, each is told. Hooks cannot be taken back, so there is one, over weak references.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Inherited", "watch"]


class Inherited(Protocol):
    """Something whose copy in a forked child needs mending."""

    def forked(self) -> None:
        """Run in the child, alone: replace mutexes, drop connections unclosed, disown leases."""
        ...


_watched: weakref.WeakSet[Inherited] = weakref.WeakSet()


def watch(thing: Inherited) -> None:
    """Tell `thing` in every child forked from now on, as long as somebody else keeps it alive."""
    _watched.add(thing)


def _in_child() -> None:
    for thing in list(_watched):
        thing.forked()


if hasattr(os, "register_at_fork"):  # absent where processes do not fork
    os.register_at_fork(after_in_child=_in_child)
