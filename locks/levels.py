"""What a store guarantees, in four levels; asking for more than it gives is refused when it is connected."""

from __future__ import annotations

from typing import Literal

from backstay.errors import Misuse

__all__ = ["LEVELS", "Level", "checked_level"]

Level = Literal["efficiency", "lease", "fenced", "transactional"]

LEVELS: dict[Level, str] = {
    "efficiency": "spares double work; two may hold it at once",
    "lease": "one valid lease at a time, while clocks and the store do what is assumed of them",
    "fenced": "every grant has a number above all earlier ones, so a resource can refuse who is late",
    "transactional": "the lock ends with the transaction that writes, so nothing can be written late",
}
"""The levels, from the weakest; each gives what those before it give."""


def checked_level(require: Level | None, given: Level, kind: str) -> None:
    """Refuse a store that gives less than is required.

    Raises:
        Misuse: it gives less, or there is no such level.
    """
    if require is None:
        return
    order = list(LEVELS)
    if require not in order:
        raise Misuse(f"require must be one of {', '.join(map(repr, order))}, got {require!r}")
    if order.index(given) < order.index(require):
        raise Misuse(
            f"a {kind} store of locks is {given!r} ({LEVELS[given]}), and {require!r} is required ({LEVELS[require]}): "
            "connect to another store, or require less and compare fences where it matters"
        )
