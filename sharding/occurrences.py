"""The sharded tables that a statement reads, and the groups of them that lie on one shard together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.sql.elements import ColumnClause

from .internals import is_kind, plain
from .predicates import Node, both
from .rules import Placement

__all__ = ["Group", "Occurrence", "Reading"]


@dataclass(eq=False, slots=True)
class Occurrence:
    """One appearance of a table in a FROM; `optional` on the NULL-able side of an outer join."""

    source: Any
    placement: Placement
    optional: bool
    top: bool
    home: Occurrence | None = None
    narrowing: list[Node] = field(default_factory=list[Node])

    def root(self) -> Occurrence:
        """The one that stands for its group."""
        here = self
        while here.home is not None:
            here = here.home
        return here

    def is_key(self, column: Any) -> bool:
        """Whether an expression is this occurrence's sharding key."""
        return self.placement.column is not None and self.has(column, self.placement.column)

    def has(self, column: Any, wanted: Column[Any]) -> bool:
        """Whether an expression is this occurrence's column `wanted`."""
        column = plain(column)
        if column is wanted:
            return self.source is self.placement.table
        if not is_kind(column, ColumnClause) or column.table is None:
            return False
        return (
            plain(column.table) is self.source
            and self.source.c.get(column.key) is not None
            and (column.key == wanted.key)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Occurrences that lie on one shard together, and what narrows their keys."""

    occurrences: tuple[Occurrence, ...]
    node: Node
    top: bool

    @property
    def placement(self) -> Placement:
        """The rule that places the group."""
        return self.occurrences[0].placement

    def names(self) -> str:
        """The tables, for texts."""
        return ", ".join(dict.fromkeys(occurrence.placement.table.name for occurrence in self.occurrences))


@dataclass(slots=True)
class Reading:
    """What was found in a whole statement.

    `derived` is the name of the clause that stands between the rows and the result (a subquery in FROM, a UNION), or
    empty:
    such a statement may only run on a single shard.
    """

    placements: Mapping[Table, Placement]
    locate: Any
    occurrences: list[Occurrence] = field(default_factory=list[Occurrence])
    derived: str = ""
    eager_collection: bool = False
    seen: set[Any] = field(default_factory=set[Any])
    select: Any = None

    def groups(self) -> tuple[Group, ...]:
        """The groups of spread tables; broadcast tables are everywhere and form none."""
        by_root: dict[Occurrence, list[Occurrence]] = {}
        for occurrence in self.occurrences:
            if not occurrence.placement.broadcast:
                by_root.setdefault(occurrence.root(), []).append(occurrence)
        return tuple(_group(members) for members in by_root.values())


def _group(members: list[Occurrence]) -> Group:
    top = [occurrence for occurrence in members if occurrence.top]
    narrowing = [node for one in (top or members) if not one.optional for node in one.narrowing]
    lead = next((one for one in top or members if not one.optional), members[0])
    ordered = (lead, *(one for one in members if one is not lead))
    return Group(occurrences=ordered, node=both(narrowing), top=bool(top))
