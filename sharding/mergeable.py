"""Which SELECTs can run on several shards and be put together rightly, and what is needed to do so.

This is a list of what is allowed: a clause that is not known to distribute over shards is refused with its name and
a cure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BindParameter, Label
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import (
    Grouping,
    UnaryExpression,
    _label_reference,
    _textual_label_reference,
)

from .aggregates import AGGREGATES, Aggregate, read_aggregates
from .expressions import check_functions, check_text, check_windows, functions
from .internals import is_kind
from .occurrences import Group, Reading
from .ordering import Reversed, nulls_first, order_key, sortable
from .refusals import apart, refuse

__all__ = ["Merging", "OrderKey", "examine", "order_keys"]

_MODIFIERS: Final = {
    operators.desc_op,
    operators.asc_op,
    operators.nulls_first_op,
    operators.nulls_last_op,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OrderKey:
    """One ORDER BY expression: what to fetch for it and how its values compare."""

    expression: Any
    key: Callable[[Any], Any]
    descending: bool
    nulls_first: bool

    def of(self, value: Any) -> tuple[int, Any]:
        """The sort key of a value, NULL included; ascending."""
        if value is None:
            return (0 if self.nulls_first else 2, None)
        key = self.key(value)
        return (1, Reversed(key) if self.descending else key)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Merging:
    """How the shards' results become one.

    `order` is empty where any order will do. `limit` and `offset` are places of values, or None. `aggregates` is set
    for a
    statement that gives one row of aggregates. `bound_order` tells that the ORDER BY holds parameters.
    """

    order: tuple[OrderKey, ...]
    limit: Any
    offset: Any
    fetch: bool
    aggregates: tuple[Aggregate, ...]
    bound_order: bool
    dialect: str

    @property
    def cuts(self) -> bool:
        """There is a LIMIT, OFFSET or FETCH."""
        return self.limit is not None or self.offset is not None


def examine(statement: Any, reading: Reading, groups: tuple[Group, ...], dialect: str, *, locate: Any) -> Merging:
    """Decide whether a SELECT may be scattered.

    Raises:
        NotMergeable: naming the clause and the cure.
    """
    if reading.derived:
        refuse(reading.derived, "it is computed per shard", "give the sharding key a value inside of it")
    top = [one for group in groups if group.top for one in group.occurrences if one.top and not one.optional]
    if len(groups) != 1 or not top:
        raise apart(groups)
    core = reading.select
    if statement._for_update_arg is not None:
        refuse("FOR UPDATE", "locks would be taken in no fixed order", "give the sharding key a value")
    if statement._prefixes or statement._suffixes:
        refuse("prefix", "its meaning is not known", "give the sharding key a value")
    if statement._distinct_on:
        refuse("DISTINCT ON", "rows are picked per shard", "give the sharding key a value")

    def holds_key(clauses: Iterable[Any]) -> bool:
        return any(one.is_key(_bare(clause)) for one in top for clause in clauses)

    columns = list(core._raw_columns)
    grouped = holds_key(core._group_by_clauses)
    used = [*columns, *(clause for clause in core._order_by_clauses), *core._group_by_clauses]
    aggregated = any(name in AGGREGATES for name in functions(used))
    if core._group_by_clauses and not grouped:
        refuse("GROUP BY", "groups reach over shards", "group by the sharding key as well, or sum up in Python")
    if core._having_criteria and not grouped:
        refuse("HAVING", "groups reach over shards", "group by the sharding key as well")
    check_windows(used, holds_key)
    if not grouped:
        check_functions(used)
    check_text(used)
    if aggregated and not grouped:
        if statement._distinct or _has_limit(statement):
            refuse("LIMIT of an aggregate", "there is one row", "leave it out")
        return Merging(
            order=(),
            limit=None,
            offset=None,
            fetch=False,
            aggregates=read_aggregates(statement._raw_columns, dialect, holds_key),
            bound_order=False,
            dialect=dialect,
        )
    if statement._distinct and not holds_key(columns):
        refuse("DISTINCT", "equal rows may come from two shards", "select the sharding key as well")
    if _has_limit(statement) and reading.eager_collection:
        refuse("LIMIT with joinedload of a collection", "rows are not parents", "use selectinload()")
    order = order_keys(statement, dialect)
    if statement._distinct:
        for key in order:
            if not any(_bare(column).compare(_bare(key.expression)) for column in [*columns, *statement._raw_columns]):
                refuse("ORDER BY with DISTINCT", "it orders by what is not selected", "select the expression as well")
    limit, fetch = _limit(statement, locate)
    return Merging(
        order=order,
        limit=limit,
        offset=_place(statement._offset_clause, locate, "OFFSET"),
        fetch=fetch,
        aggregates=(),
        bound_order=any(is_kind(part, BindParameter) for key in order for part in visitors.iterate(key.expression)),
        dialect=dialect,
    )


def order_keys(statement: Any, dialect: str) -> tuple[OrderKey, ...]:
    """What the ORDER BY of a statement means to the merge.

    Raises:
        NotMergeable: the order of a type is not known.
    """
    return tuple(_order_key(clause, statement, dialect) for clause in statement._order_by_clauses)


def _has_limit(statement: Any) -> bool:
    return any(
        clause is not None for clause in (statement._limit_clause, statement._offset_clause, statement._fetch_clause)
    )


def _limit(statement: Any, locate: Any) -> tuple[Any, bool]:
    if statement._fetch_clause is None:
        return _place(statement._limit_clause, locate, "LIMIT"), False
    options: Any = statement._fetch_clause_options or {}
    if options.get("percent") or options.get("with_ties"):
        refuse("FETCH PERCENT or WITH TIES", "it counts per shard", "use LIMIT")
    return _place(statement._fetch_clause, locate, "FETCH"), True


def _place(clause: Any, locate: Any, name: str) -> Any:
    if clause is None:
        return None
    place = locate(clause) if is_kind(clause, BindParameter) else None
    if place is None:
        refuse(name, "it is an expression", "pass a number")
    return place


def _order_key(clause: Any, statement: Any, dialect: str) -> OrderKey:
    descending, declared = False, None
    while True:
        if is_kind(clause, _label_reference):
            clause = clause.element
        elif is_kind(clause, _textual_label_reference):
            clause = _by_name(clause.element, statement)
        elif is_kind(clause, UnaryExpression) and clause.modifier in _MODIFIERS:
            if clause.modifier is operators.desc_op:
                descending = True
            elif clause.modifier is not operators.asc_op:
                declared = clause.modifier is operators.nulls_first_op
            clause = clause.element
        elif is_kind(clause, Label, Grouping):
            clause = clause.element
        else:
            break
    key = order_key(clause.type, dialect)
    if key is None:
        refuse(
            f"ORDER BY {clause}",
            f"the order of {clause.type!r} is not known on {dialect}",
            "order by a number or a date, or by collate(text, 'C') on PostgreSQL",
        )
    first = nulls_first(dialect, descending=descending, declared=declared)
    return OrderKey(expression=sortable(clause, dialect), key=key, descending=descending, nulls_first=first)


def _by_name(name: str, statement: Any) -> Any:
    named = [column for column in statement._raw_columns if getattr(column, "name", None) == name]
    if len(named) != 1:
        refuse(f"ORDER BY {name!r}", "the name is not one selected column", "order by the attribute itself")
    return named[0]


def _bare(clause: Any) -> Any:
    while True:
        if is_kind(clause, _label_reference, Label, Grouping) or (
            is_kind(clause, UnaryExpression) and clause.modifier in _MODIFIERS
        ):
            clause = clause.element
        else:
            return clause
