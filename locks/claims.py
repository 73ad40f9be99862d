"""What is asked of a resource: which of its units, how much of each; values and one rule, no I/O.

Every recipe of this package is a claim. A resource has units; a claim names some of them with a weight, and a
unit carries claims up to its capacity. One holder at a time is one unit of capacity 1; permits are weights on a
unit of the resource's size; a reader weighs 1 and a writer the whole on a unit of capacity `WHOLE`; a stripe of
a segmented lock is a unit of its own, beside a unit that every stripe's holder shares and the whole lock's holder
fills. So one rule decides for all of them, first come, first served: a claim is admitted where it fits beside
those who hold and those who came before it and still wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["KINDS", "MUTEX", "READ", "WHOLE", "WRITE", "Claim", "Resource", "Unit", "fits", "permits", "stripes",
           "weigh", "whole"]  # fmt: skip

WHOLE = 1 << 30
"""The capacity of a unit that any number may share or one may fill."""


class Resource(NamedTuple):
    """A thing in a store that can be held: its name, and the recipe that it belongs to.

    Resources of different kinds never meet, whatever their names.
    """

    name: str
    kind: str = "lock"
    """`lock`, `read-write lock`, `semaphore` or `segmented lock`; also what errors call it."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


KINDS = frozenset({"lock", "read-write lock", "semaphore", "segmented lock"})
"""The kinds of resources that a claim can be for."""


class Unit(NamedTuple):
    """How much of one unit is claimed."""

    label: str
    weight: int
    capacity: int
    """What the unit carries; 0 says the size of the resource, as the store has it."""


class Claim(NamedTuple):
    """What one acquisition asks for."""

    units: tuple[Unit, ...]
    size: int = 0
    """The size that the caller takes the resource to have; 0 where the resource has none, or any will do."""


MUTEX = Claim((Unit("", 1, 1),))
READ = Claim((Unit("", 1, WHOLE),))
WRITE = Claim((Unit("", WHOLE, WHOLE),))


def permits(count: int, size: int) -> Claim:
    """Return the claim to `count` permits of a semaphore of `size`."""
    return Claim((Unit("", count, 0),), size)


def stripes(numbers: Iterable[int], size: int) -> Claim:
    """Return the claim to some stripes of a segmented lock of `size`: each once, in order."""
    return Claim((Unit("*", 1, WHOLE), *(Unit(str(number), 1, 1) for number in sorted(set(numbers)))), size)


def whole(size: int) -> Claim:
    """Return the claim to a segmented lock as a whole."""
    return Claim((Unit("*", WHOLE, WHOLE),), size)


def weigh(used: dict[str, int], units: Iterable[Unit]) -> None:
    """Add the weights of `units` to what is used."""
    for unit in units:
        used[unit.label] = used.get(unit.label, 0) + unit.weight


def fits(used: Mapping[str, int], units: Iterable[Unit], size: int) -> bool:
    """Return whether `units` can be had beside what is used."""
    return all(used.get(unit.label, 0) + unit.weight <= (unit.capacity or size) for unit in units)
