"""Reading a resource's row, and writing it back if nobody was faster."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from backstay.clock import monotonic
from backstay.errors import Unavailable
from backstay.locks.claims import Resource
from backstay.locks.table import Table

from .exchange import Desk
from .packing import LIMIT, pack, unpack
from .schema import key_of

__all__ = ["changing", "looking", "printable"]

T = TypeVar("T")

CROWD = 3  # times that somebody else may be faster before a pause is made


def looking(desk: Desk, space: str, resource: Resource) -> tuple[Table, float]:
    """Return a resource's table and the database's clock, seconds."""
    row: Any = desk.read(desk.statements.lock, key=key_of(space, resource))
    now, _, _, state = row
    return unpack(state, lambda: 0), now / 1e6


def changing(desk: Desk, space: str, resource: Resource, work: Callable[[Table, float], tuple[T, bool]]) -> T:
    """Run one step of a resource's table and keep what it changed.

    Args:
        desk: what the exchange works with.
        space: the namespace.
        resource: which row.
        work: the step; from the table and the database's clock to its answer, and whether what it did to the table
            may be forgotten. It may be run several times, each time on another table.

    Raises:
        Unavailable: others were faster all the time.
    """
    key, defeats = key_of(space, resource), 0
    while True:
        row: Any = desk.read(desk.statements.lock, key=key)
        now, version, fence, state = row
        fences = Fences(fence or 0, now)
        table = unpack(state, fences.draw)
        answer, forget = work(table, now / 1e6)
        if forget:
            return answer
        packed = pack(resource, table)
        if packed.state == state:
            return answer
        if len(packed.state) > LIMIT and len(packed.state) > len(state or ""):
            raise Unavailable(f"{resource}: too many hold it or wait for it to be kept in one row; try again later")
        values = packed._asdict() | {"size": table.size, "fence": fences.last}
        if version is None:
            written = desk.write(
                desk.statements.new_lock, id=key, namespace=space, kind=resource.kind,
                name=printable(resource.name), version=1, **values,
            )  # fmt: skip
        else:
            changes = {f"new_{name}": value for name, value in values.items()}
            written = desk.write(desk.statements.change_lock, key=key, read=version, new_version=version + 1, **changes)
        if written:
            return answer
        defeats += 1
        if defeats > CROWD:
            time.sleep(random.uniform(0.0, min(0.0005 * defeats, 0.01)))
        if monotonic() >= desk.until:
            raise Unavailable(f"{resource}: others were faster all the time, and nothing was changed")


class Fences:
    """Draws fences above the last one, and above the database's clock in microseconds.

    The clock keeps them rising where the row was lost; the row keeps them rising where the clock was set back.
    """

    __slots__ = ("_now", "last")

    def __init__(self, last: int, now: int) -> None:
        self.last, self._now = last, now

    def draw(self) -> int:
        """Return the next fence."""
        self.last = max(self.last + 1, self._now)
        return self.last


def printable(name: str) -> str:
    """Return a name as a column can carry it, for people; what counts is in the key and the state."""
    return name.replace("\0", "\N{SYMBOL FOR NULL}")
