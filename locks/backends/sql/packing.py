"""A resource's table as the text of its row, and back: JSON with a version number, bounded, ASCII only."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from backstay.errors import Misuse
from backstay.locks.claims import Resource, Unit
from backstay.locks.owners import readable
from backstay.locks.table import Entry, Holder, Table

__all__ = ["LIMIT", "Packed", "pack", "resource_of", "unpack"]

FORMAT = 1
LIMIT = 1 << 20
"""Characters that a row's state has at most; a claim that would need more has to wait."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Packed(NamedTuple):
    """What a row says of a table."""

    state: str
    owner: str
    expires_at: str
    busy_until: int


def pack(resource: Resource, table: Table) -> Packed:
    """Return a table as a row."""
    state: dict[str, Any] = {"v": FORMAT, "kind": resource.kind, "name": resource.name}
    if table.size:
        state["size"] = table.size
    if table.holders:
        state["holders"] = [[token, each.units, each.fence, each.since, each.ends]
                            for token, each in table.holders.items()]  # fmt: skip
    if table.queue:
        state["queue"] = [[token, each.units, each.ttl, each.address, each.alive]
                          for token, each in table.queue.items()]  # fmt: skip
    if table.gone:
        state["gone"] = table.gone
    first = next(iter(table.holders.items()), None)
    busy_until = max([0.0, *(each.ends for each in table.holders.values()),
                      *(each.alive for each in table.queue.values())])  # fmt: skip
    return Packed(
        _encode(state),
        readable(first[0])[:200] if first else "",
        (_EPOCH + timedelta(seconds=first[1].ends)).isoformat(timespec="milliseconds") if first else "",
        int(busy_until * 1e6),
    )


def unpack(text: str | None, draw: Callable[[], int]) -> Table:
    """Return the table of a row, or an empty one where there is no row yet.

    Raises:
        Misuse: a newer Backstay wrote it.
    """
    table = Table(draw, None)
    if text is None:
        return table
    state = _read(text)
    table.size = state.get("size", 0)
    for token, units, fence, since, ends in state.get("holders", ()):
        table.holders[token] = Holder(_units(units), fence, since, ends)
    for token, units, ttl, address, alive in state.get("queue", ()):
        table.queue[token] = Entry(_units(units), ttl, address, alive)
    table.gone.update(state.get("gone", {}))
    return table


def resource_of(text: str) -> Resource:
    """Return which resource a state belongs to; the columns cannot say it of every name."""
    state = _read(text)
    return Resource(state["name"], state["kind"])


def _read(text: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(text)
    if state.get("v") != FORMAT:
        raise Misuse(f"a lock's row has format {state.get('v')}, this Backstay knows {FORMAT}; upgrade Backstay")
    return state


def _units(packed: list[list[Any]]) -> tuple[Unit, ...]:
    return tuple(Unit(*each) for each in packed)
