"""Whether it is a contender's turn, and whom it must see leave first where it is not; pure.

The rule of `claims` with the order of arrival given by the server: a claim is admitted where it fits beside all
that came before it, whether they hold or wait. So who holds follows from one listing, for everybody alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from backstay.locks.claims import Unit, fits, weigh

__all__ = ["Ahead", "obstacles"]


class Ahead(NamedTuple):
    """One who came before."""

    node: str
    units: tuple[Unit, ...]


def obstacles(ahead: Sequence[Ahead], units: Sequence[Unit], size: int) -> list[str] | None:
    """Return the nodes of which at least one must go, or claim less, before `units` can be admitted.

    None says that it is their turn; an empty list that the resource itself is too small. To watch these and no others
    is enough: what all others before them weigh, together with the claim, is still too much. The earliest are left
    out first, as they leave first: a mutex watches its neighbour, a reader the nearest writer, a writer its nearest
    neighbour of any kind (Z3, RW4), a claim to one of n permits its n nearest, so a release wakes n waiters at most.
    """
    used: dict[str, int] = {}
    for each in ahead:
        weigh(used, each.units)
    if fits(used, units, size):
        return None
    full = next(unit for unit in units if not fits(used, (unit,), size))
    spare = used.get(full.label, 0) + full.weight - (full.capacity or size) - 1
    watched: list[str] = []
    for each in ahead:  # in order of arrival
        weight = sum(unit.weight for unit in each.units if unit.label == full.label)
        if weight <= spare:
            spare -= weight
        elif weight:
            watched.append(each.node)
    return watched
