"""Which expressions mean the same when each shard computes them for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import TextClause
from sqlalchemy.sql.elements import ColumnClause, Over
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase

from .aggregates import AGGREGATES
from .internals import is_kind
from .refusals import refuse

__all__ = ["check_functions", "check_text", "check_windows", "functions"]

#: Functions of one row. Anything else might be an aggregate, a random number or a window.
_ROW_FUNCTIONS: Final = frozenset(
    [
        "abs",
        "acos",
        "ascii",
        "asin",
        "atan",
        "cast",
        "ceil",
        "ceiling",
        "char_length",
        "character_length",
        "coalesce",
        "concat",
        "date",
        "date_part",
        "date_trunc",
        "day",
        "exp",
        "extract",
        "floor",
        "greatest",
        "hour",
        "ifnull",
        "instr",
        "least",
        "length",
        "ln",
        "log",
        "lower",
        "lpad",
        "ltrim",
        "md5",
        "minute",
        "mod",
        "month",
        "now",
        "nullif",
        "power",
        "replace",
        "reverse",
        "right",
        "left",
        "round",
        "rpad",
        "rtrim",
        "second",
        "sign",
        "sqrt",
        "strftime",
        "substr",
        "substring",
        "time",
        "trim",
        "trunc",
        "upper",
        "year",
        "current_date",
        "current_time",
        "current_timestamp",
    ]
)


def _walk(clauses: Iterable[Any], *, into_windows: bool) -> Iterable[Any]:
    stack = list(clauses)
    while stack:
        element = stack.pop()
        if is_kind(element, SelectBase):
            continue  # a correlated subquery is computed whole, beside its row
        yield element
        if is_kind(element, Over) and not into_windows:
            continue
        stack.extend(element.get_children(column_tables=False))


def functions(clauses: Iterable[Any]) -> Iterable[str]:
    """The names of the functions that are called, those inside of a window left out."""
    for element in _walk(clauses, into_windows=False):
        if is_kind(element, FunctionElement):
            yield str(getattr(element, "name", "")).lower()


def check_functions(clauses: Iterable[Any]) -> None:
    """Refuse what might be an aggregate, a random number or a window.

    Raises:
        NotMergeable: naming the function.
    """
    for name in functions(clauses):
        if name not in _ROW_FUNCTIONS and name not in AGGREGATES:
            refuse(f"function {name}()", "it may be an aggregate or differ at each call", "compute it in Python")


def check_windows(clauses: Iterable[Any], holds_key: Callable[[Iterable[Any]], bool]) -> None:
    """Refuse a window whose partition reaches over shards.

    Raises:
        NotMergeable: naming it.
    """
    for element in _walk(clauses, into_windows=True):
        if is_kind(element, Over):
            partition: Any = element.partition_by
            parts = [] if partition is None else list(getattr(partition, "clauses", [partition]))
            if not holds_key(parts):
                refuse("window function", "its partition reaches over shards", "partition by the sharding key")


def check_text(clauses: Iterable[Any]) -> None:
    """Refuse a text among the expressions.

    Raises:
        NotMergeable: naming it.
    """
    bare = {id(clause) for clause in clauses}
    for element in _walk(clauses, into_windows=True):
        if getattr(element, "name", None) == "*" and id(element) not in bare:
            continue  # of count(*)
        if is_kind(element, TextClause) or (is_kind(element, ColumnClause) and element.is_literal):
            refuse("text()", "what it computes is not known", "write it with columns and func")
