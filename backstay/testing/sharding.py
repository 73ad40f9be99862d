"""The master oracle: what a sharded session returns is what one database with all the rows returns.

    oracle = MasterOracle(layout, whole)            # `whole`: one database with the rows of all shards
    oracle.check(select(Order).order_by(Order.placed_at).limit(5))

Use it in a service's own tests, with the statements that the service sends. Columns, types, the multiset of rows,
and the
order wherever ORDER BY fixes it are compared; rows that tie may come in any order, and LIMIT may pick any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Label, Row, inspect
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import UnaryExpression

from backstay.sharding import NotMergeable, ShardedSession, ShardMap, Unroutable
from backstay.sharding.internals import is_kind

__all__ = ["MasterOracle", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a check: the rows were right, or the statement was refused with this error."""

    refused: NotMergeable | Unroutable | None
    rows: int


class MasterOracle:
    """Compares a sharded layout with one unsharded database that holds the same rows.

    Args:
        layout: the shards.
        whole: the engine of the database with all the rows, of the same dialect.
    """

    def __init__(self, layout: ShardMap, whole: Engine) -> None:
        self._layout = layout
        self._whole = whole

    def check(self, statement: Any, params: dict[str, Any] | None = None, **session_options: Any) -> Verdict:
        """Run a SELECT on both.

        Raises:
            AssertionError: the answers differ; the text shows both.
        """
        try:
            with ShardedSession(self._layout, **session_options) as session:
                result = session.execute(statement, params or {})
                labels = list(result.keys())
                got = (
                    [_row(row) for row in result.unique()] if _collections(statement) else [_row(row) for row in result]
                )
        except (NotMergeable, Unroutable) as error:
            return Verdict(refused=error, rows=0)
        order = [_bare(clause, statement) for clause in statement._order_by_clauses]
        limit, offset = self._window(statement, params)
        with Session(self._whole) as session:
            full = statement.limit(None).offset(None)
            full._fetch_clause = None
            expected_labels = list(session.execute(statement, params or {}).keys())
            hidden = [expression.label(f"_oracle_{at}") for at, expression in enumerate(order)]
            found = session.execute(full.add_columns(*hidden) if hidden else full, params or {})
            found = found.unique() if _collections(statement) else found
            split = len(hidden)
            expected = [(_row(row[: len(row) - split]), tuple(row[len(row) - split :])) for row in found]
        assert labels == expected_labels, f"labels {labels} instead of {expected_labels}"
        _compare(got, expected, offset, limit, ordered=bool(order))
        return Verdict(refused=None, rows=len(got))

    def _window(self, statement: Any, params: dict[str, Any] | None) -> tuple[int | None, int]:
        def value(clause: Any) -> int | None:
            return None if clause is None else (params or {}).get(clause.key, clause.effective_value)

        limit = value(statement._limit_clause if statement._limit_clause is not None else statement._fetch_clause)
        return limit, value(statement._offset_clause) or 0


def _compare(got: list[Any], expected: list[tuple[Any, Any]], offset: int, limit: int | None, *, ordered: bool) -> None:
    size = max(0, len(expected) - offset)
    size = size if limit is None else min(size, limit)
    assert len(got) == size, f"{len(got)} rows instead of {size}: {got[:5]}"
    if not ordered:
        extra = Counter(got) - Counter(row for row, _ in expected)
        assert not extra, f"rows that are not there: {list(extra)[:5]}"
        return
    left = Counter(expected)
    for at, row in enumerate(got):
        key = expected[offset + at][1]
        assert left[(row, key)] > 0, f"row {at} is {row}, expected one with the order key {key}"
        left[(row, key)] -= 1


def _row(row: Row[Any] | Sequence[Any]) -> tuple[Any, ...]:
    return tuple(_value(value) for value in row)


def _value(value: Any) -> Any:
    state = inspect(value, raiseerr=False)
    if state is None or not hasattr(state, "mapper"):
        return type(value).__name__, value
    columns = tuple((prop.key, getattr(value, prop.key)) for prop in state.mapper.column_attrs)
    lists = tuple(
        (prop.key, tuple(_value(one) for one in state.dict[prop.key]))
        for prop in state.mapper.relationships
        if prop.uselist and prop.key in state.dict
    )
    return type(value).__name__, columns, lists


def _collections(statement: Any) -> bool:
    return bool(statement._with_options)


def _bare(clause: Any, statement: Any) -> Any:
    while is_kind(clause, UnaryExpression, Label) or type(clause).__name__.endswith("label_reference"):
        clause = clause.element
        if isinstance(clause, str):
            clause = next(column for column in statement._raw_columns if getattr(column, "name", None) == clause)
    return clause
