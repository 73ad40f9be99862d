"""Which sharded tables a statement reads, which of them are proved to sit on one shard together, and by which keys.

Theory: every occurrence of a sharded table (an alias is another occurrence) is a node. Two are linked when an inner
join, a WHERE or the ON of an outer join makes their keys equal, or follows the foreign key that a rule's `with_`
vouches
for: then rows that meet in the result lie on one shard. Linked occurrences form a *group*. A statement with one
group can
run shard by shard; with several, each must land on the same single shard. Only predicates of rows that the result
cannot
do without narrow a group: the optional side of an outer join never does (R7), nor does a correlated subquery.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Alias, CompoundSelect, Join, Select, Table, TextClause
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.selectable import CTE, FromGrouping, SelectBase, SelectStatementGrouping, Subquery

from .equalities import equalities, together
from .errors import Unroutable
from .internals import added_criteria, expand, is_kind, plain
from .occurrences import Occurrence, Reading
from .predicates import narrow
from .rules import Placement

__all__ = ["read_select", "read_write", "subselects"]


def read_select(statement: Any, placements: Mapping[Table, Placement], locate: Any) -> Reading:
    """Analyse a SELECT (or a UNION of them).

    Raises:
        Unroutable: it reads a table without a rule, or something whose tables cannot be seen.
    """
    reading = Reading(placements, locate)
    _Scope(reading, top=True).select(statement)
    return reading


def read_write(
    table: Table, where: Iterable[Any], values: Iterable[Any], placements: Mapping[Table, Placement], locate: Any
) -> Reading:
    """Analyse an UPDATE or DELETE of one table.

    Raises:
        Unroutable: it has a table without a rule, or reads another table outside of a subquery.
    """
    reading = Reading(placements, locate)
    _Scope(reading, top=True).write(table, tuple(where), tuple(values))
    return reading


def subselects(elements: Iterable[Any]) -> Iterator[Any]:
    """The SELECTs directly inside of expressions, not those inside of these.

    Raises:
        Unroutable: a text that may hold a SELECT.
    """
    stack = list(elements)
    while stack:
        element = stack.pop()
        if is_kind(element, SelectStatementGrouping):
            element = element.element
        if is_kind(element, SelectBase):
            yield element
            continue
        if is_kind(element, TextClause) or (is_kind(element, ColumnClause) and element.is_literal):
            text = element.text if is_kind(element, TextClause) else element.name
            if "select" in text.lower():
                raise Unroutable(
                    "a text fragment holds a SELECT, whose tables cannot be seen",
                    clause="text()",
                    cure="write it with select(), or name the shard: execution_options={'shard': 's0'}",
                )
            continue
        if is_kind(element, Table, Alias):
            continue
        stack.extend(element.get_children())


class _Scope:
    """One SELECT; `outer` is the one it may be correlated with."""

    def __init__(self, reading: Reading, *, top: bool, outer: _Scope | None = None) -> None:
        self._reading = reading
        self._top = top
        self._outer = outer
        self._here: list[Occurrence] = []
        #: ON clauses, each with the occurrences that it holds for; None where it holds for all, as WHERE does
        self._joins: list[tuple[Any, set[Occurrence] | None]] = []

    def select(self, statement: Any) -> None:
        if is_kind(statement, SelectStatementGrouping):
            statement = statement.element
        if is_kind(statement, CompoundSelect):
            self._reading.derived = self._reading.derived or str(statement.keyword.value).upper()
            for part in statement.selects:
                _Scope(self._reading, top=False, outer=self._outer).select(part)
            return
        if not is_kind(statement, Select):
            raise Unroutable(
                f"{type(statement).__name__} cannot be routed: its tables cannot be seen",
                clause=type(statement).__name__,
                cure="write it with select(), or name the shard: execution_options={'shard': 's0'}",
            )
        expanded, collection = expand(statement, eager=self._top)
        if self._top:
            self._reading.select = expanded
        self._reading.eager_collection = self._reading.eager_collection or (collection and self._top)
        for part in self._own_froms(expanded):
            self._from(part, optional=False)
        where = expanded._where_criteria
        inner_ons = [clause for clause, holds in self._joins if holds is None]
        self._link([*where, *inner_ons], {one for one in self._here if not one.placement.broadcast})
        for clause, holds in self._joins:
            if holds is not None:
                self._link([clause], holds)
        for one in self._here:
            self._narrow_by(one, [*where, *inner_ons])
        clauses = [
            *expanded._raw_columns,
            *where,
            *(clause for clause, _ in self._joins if clause is not None),
            *expanded._having_criteria,
        ]
        clauses += [*expanded._group_by_clauses, *expanded._order_by_clauses]
        for inner in subselects(clauses):
            _Scope(self._reading, top=False, outer=self).select(inner)
        for _ in subselects(added_criteria(statement)):
            raise Unroutable(
                "with_loader_criteria holds a subquery, whose place is not known before it is compiled",
                clause="with_loader_criteria",
                cure="put it into where()",
            )
        for cte in expanded._independent_ctes:
            self._derive(cte.element, "CTE")

    def write(self, table: Table, where: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        """The table that is written, instead of a FROM."""
        self._table(table, optional=False)
        target = self._here[0]
        for element in _columns((*where, *values)):
            if plain(element.table) is not table:
                raise Unroutable(
                    f"the statement reads {element} beside {table.name!r}",
                    clause="UPDATE FROM",
                    cure="use a subquery that is joined on the sharding key",
                )
        self._narrow_by(target, where)
        for inner in subselects((*where, *values)):
            _Scope(self._reading, top=False, outer=self).select(inner)

    def _narrow_by(self, one: Occurrence, clauses: Iterable[Any]) -> None:
        if one.placement.broadcast:
            return
        column, _ = one.placement.keyed()
        for clause in clauses:
            one.narrowing.append(narrow(clause, one.is_key, self._reading.locate, nullable=bool(column.nullable)))

    def _own_froms(self, statement: Any) -> list[Any]:
        """The FROMs that are not taken from an enclosing SELECT by correlation."""
        froms = list(statement.get_final_froms())
        if self._outer is None:
            return froms
        enclosing = self._enclosing()
        shared = [part for part in froms if plain(part) in enclosing]
        if statement._correlate_except is not None:
            kept = {plain(part) for part in statement._correlate_except}
            shared = [part for part in shared if plain(part) not in kept]
        elif not statement._auto_correlate:
            named = {plain(part) for part in statement._correlate}
            shared = [part for part in shared if plain(part) in named]
        rest = [part for part in froms if part not in shared]
        if any(plain(part) in enclosing for part in rest) or not rest:
            raise Unroutable(
                "a subquery uses the table of the outer query a second time without an alias",
                clause="subquery",
                cure="use aliased()",
            )
        return rest

    def _enclosing(self) -> set[Any]:
        found: set[Any] = set()
        scope = self._outer
        while scope is not None:
            found.update(one.source for one in scope._here)
            scope = scope._outer
        return found

    def _from(self, part: Any, *, optional: bool) -> None:
        part = plain(part)
        if is_kind(part, FromGrouping):
            self._from(part.element, optional=optional)
        elif is_kind(part, Join):
            if part.full:
                raise Unroutable(
                    "FULL OUTER JOIN cannot be routed", clause="FULL OUTER JOIN", cure="use two LEFT JOINs"
                )
            left = len(self._here)
            self._from(part.left, optional=optional)
            right = len(self._here)
            self._from(part.right, optional=optional or part.isouter)
            # The equalities of ON hold for the optional side only, or for all that an optional inner join is made of.
            reach = self._here[right if part.isouter else left :]
            holds = None if not (part.isouter or optional) else {one for one in reach if not one.placement.broadcast}
            self._joins.append((part.onclause, holds))
        elif is_kind(part, Subquery, CTE):
            self._derive(part.element, "CTE" if is_kind(part, CTE) else "subquery in FROM")
        elif is_kind(part, Table) or (is_kind(part, Alias) and is_kind(plain(part.element), Table)):
            self._table(part, optional)
        else:
            raise Unroutable(
                f"{type(part).__name__} in FROM cannot be routed",
                clause="FROM",
                cure="name the shard: execution_options={'shard': 's0'}",
            )

    def _derive(self, element: Any, clause: str) -> None:
        self._reading.derived = self._reading.derived or clause
        if is_kind(element, Table, Alias):
            raise Unroutable("an alias of an alias cannot be routed", clause="FROM", cure="use aliased() once")
        if element not in self._reading.seen:  # a recursive CTE reads itself
            self._reading.seen.add(element)
            _Scope(self._reading, top=False).select(element)

    def _table(self, part: Any, optional: bool) -> None:
        table = part if is_kind(part, Table) else plain(part.element)
        placement = self._reading.placements.get(table)
        if placement is None:
            raise Unroutable(
                f"table {table.name!r} has no rule in this layout",
                clause="FROM",
                cure="add Rule(...) or Broadcast(...)",
            )
        occurrence = Occurrence(part, placement, optional, self._top)
        self._here.append(occurrence)
        self._reading.occurrences.append(occurrence)

    def _link(self, clauses: Iterable[Any], within: set[Occurrence]) -> None:
        """Link the occurrences that AND-ed equalities put on one shard.

        The equalities hold only for rows of `within` that the result uses: everything here for WHERE, the optional
        side for the
        ON of an outer join. So a link needs a member of `within`, and must not join two groups that reach outside of
        it: NOT EXISTS
        (x.k = a.k AND x.k = b.k) does not make a.k and b.k equal.
        """
        equal = [pair for clause in clauses for pair in equalities(clause)]
        known = self._visible()
        for both_inside in (True, False):
            for a in within:
                for b in known:
                    if a.root() is b.root() or (b in within) is not both_inside or not together(a, b, equal):
                        continue
                    if both_inside or not self._reaches_out(a, within):
                        a.root().home = b.root()

    def _reaches_out(self, one: Occurrence, within: set[Occurrence]) -> bool:
        root = one.root()
        return any(other.root() is root and other not in within for other in self._reading.occurrences)

    def _visible(self) -> list[Occurrence]:
        found: list[Occurrence] = []
        scope: _Scope | None = self
        while scope is not None:
            found += [one for one in scope._here if not one.placement.broadcast]
            scope = scope._outer
        return found


def _columns(elements: Iterable[Any]) -> Iterator[Any]:
    stack = list(elements)
    while stack:
        element = stack.pop()
        if is_kind(element, ColumnClause) and element.table is not None:
            yield element
        elif not is_kind(element, SelectBase, Table, Alias):
            stack.extend(element.get_children())
