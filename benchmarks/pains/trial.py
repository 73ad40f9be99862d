"""One pain: the same trouble made for a peer and for Backstay, and whether the fault shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """How a library took it: whether the fault shows, and what was seen."""

    fault: bool
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pain:
    """A pain of the field.

    Args:
        number: its place in the list that the design stands on.
        what: the pain in a few words.
        peer: the library that shows it, by the name of its distribution.
        theirs: makes the trouble for the peer.
        ours: makes the same trouble for Backstay.
    """

    number: int
    what: str
    peer: str
    theirs: Callable[[], Shown]
    ours: Callable[[], Shown]
