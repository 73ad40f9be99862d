"""COUNT, SUM, MIN, MAX and AVG over several shards, from partial results (M4, M5).

Only where the combination is exactly what one database would give: integers and decimals, never floats, whose last
bits depend on
the order of summing, and never AVG from averages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Label, func
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import Grouping, UnaryExpression
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Boolean, Float, Integer, Numeric, TypeDecorator

from .errors import NotMergeable
from .internals import is_kind
from .ordering import order_key, sortable

__all__ = ["AGGREGATES", "Aggregate", "combine", "partials", "read_aggregates"]

AGGREGATES: Final = frozenset({"count", "sum", "min", "max", "avg"})

_EXACT_FLOAT: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aggregate:
    """One aggregate of the select list: its function, its argument, and the order of its values for MIN and MAX."""

    name: str
    argument: Any
    key: Callable[[Any], Any] | None = None


def read_aggregates(
    columns: Sequence[Any], dialect: str, holds_key: Callable[[Iterable[Any]], bool]
) -> tuple[Aggregate, ...]:
    """Read a select list that is made of aggregates only.

    Raises:
        NotMergeable: a column is something else, or cannot be combined exactly.
    """
    return tuple(_read(column, dialect, holds_key) for column in columns)


def partials(aggregates: Sequence[Aggregate]) -> list[Any]:
    """The columns to fetch besides the select list: SUM and COUNT of each AVG, in turn."""
    hidden: list[Any] = []
    for aggregate in aggregates:
        if aggregate.name == "avg":
            hidden.append(func.sum(aggregate.argument).label(f"_bs_k{len(hidden)}"))
            hidden.append(func.count(aggregate.argument).label(f"_bs_k{len(hidden)}"))
    return hidden


def combine(
    aggregates: Sequence[Aggregate],
    rows: Sequence[Sequence[Any]],
    processed: Sequence[Sequence[Any]],
    divide: Callable[[Any, int], Any],
) -> list[Any]:
    """The one row of the whole, from one row a shard.

    Args:
        aggregates: the select list.
        rows: what each shard gave, hidden columns last.
        processed: the same rows with their values as Python sees them; MIN and MAX compare these.
        divide: the dialect's own sum / count for AVG; never called with a count of 0.
    """
    result: list[Any] = []
    hidden = len(aggregates)
    for at, aggregate in enumerate(aggregates):
        if aggregate.name == "count":
            result.append(sum(row[at] for row in rows))
        elif aggregate.name == "sum":
            result.append(_total(row[at] for row in rows))
        elif aggregate.name == "avg":
            total, count = _total(row[hidden] for row in rows), sum(row[hidden + 1] for row in rows)
            hidden += 2
            result.append(divide(total, count) if count else None)
        else:
            result.append(_extreme(aggregate, at, rows, processed))
    return result


def divide_as_sqlite(total: Any, count: int) -> float:
    """AVG as SQLite computes it: one division of doubles.

    Raises:
        NotMergeable: the sum is beyond 2**53, where SQLite itself rounds on the way.
    """
    if abs(total) >= _EXACT_FLOAT:
        raise NotMergeable(
            "AVG over several shards: the sum is beyond 2**53",
            clause="AVG",
            cure="fetch SUM and COUNT and divide in Python",
        )
    return float(total) / float(count)


def _total(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return None
    total = known[0]
    for value in known[1:]:
        total = total + value
    return total


def _extreme(aggregate: Aggregate, at: int, rows: Sequence[Sequence[Any]], processed: Sequence[Sequence[Any]]) -> Any:
    assert aggregate.key is not None
    known = [
        (aggregate.key(value[at]), row[at]) for row, value in zip(rows, processed, strict=True) if row[at] is not None
    ]
    if not known:
        return None
    pick = min if aggregate.name == "min" else max
    return pick(known, key=lambda pair: pair[0])[1]


def _read(column: Any, dialect: str, holds_key: Callable[[Iterable[Any]], bool]) -> Aggregate:
    while is_kind(column, Label, Grouping):
        column = column.element
    name = str(getattr(column, "name", "")).lower()
    if not is_kind(column, FunctionElement) or name not in AGGREGATES:
        raise NotMergeable(
            f"{column} beside or around an aggregate, over several shards: it would be computed per shard",
            clause=str(column),
            cure="select the plain aggregates and compute with them in Python, or group by the sharding key",
        )
    arguments = list(column.clause_expr.element.clauses)
    if len(arguments) > 1:
        raise NotMergeable(f"{name}() of several arguments over several shards", clause=name, cure="use one argument")
    argument: Any = arguments[0] if arguments else None
    while is_kind(argument, Grouping):
        argument = argument.element
    if is_kind(argument, UnaryExpression) and argument.operator is operators.distinct_op:
        if name == "count" and holds_key([argument.element]):
            return Aggregate(name=name, argument=argument)
        if name not in ("min", "max"):
            raise NotMergeable(
                f"{name.upper()}(DISTINCT) over several shards: a value may be on two shards",
                clause="DISTINCT",
                cure="group by the sharding key, or count in Python",
            )
        argument = argument.element
    if name == "count":
        return Aggregate(name=name, argument=argument)
    if name in ("min", "max"):
        return _ordered(name, argument, dialect)
    if not _summable(argument.type, dialect):
        raise NotMergeable(
            f"{name.upper()} of {argument.type!r} over several shards: its last digits depend on the order of summing",
            clause=name.upper(),
            cure="sum integers (cents), or fetch the values",
        )
    return Aggregate(name=name, argument=argument)


def _ordered(name: str, argument: Any, dialect: str) -> Aggregate:
    key = order_key(argument.type, dialect)
    # Where the database keeps a float, rounding it to Decimal makes ties of values that differ.
    if key is None or (is_kind(argument.type, Numeric, Float) and sortable(argument, dialect) is not argument):
        raise NotMergeable(
            f"{name.upper()} of {argument.type!r} over several shards: its order is not known on {dialect}",
            clause=name.upper(),
            cure="use a number or a date, or order by it with a binary collation",
        )
    return Aggregate(name=name, argument=argument, key=key)


def _summable(type_: Any, dialect: str) -> bool:
    if is_kind(type_, TypeDecorator, Boolean, Float):
        return False
    return is_kind(type_, Integer) or (is_kind(type_, Numeric) and dialect != "sqlite")
