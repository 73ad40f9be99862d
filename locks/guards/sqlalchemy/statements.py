"""The statements of a guarded table, built and nothing else: the comparison is part of the write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Delete, Insert, Select, Table, Update, case, or_, select
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression

from backstay.errors import Misuse
from backstay.locks.guards.token import FencingToken

__all__ = ["Statements"]


class Statements:
    """Guarded writes to one table.

    Args:
        table: the table.
        column: the name of its fence column.

    Raises:
        Misuse: the table has no such column.
    """

    def __init__(self, table: Table, column: str) -> None:
        if column not in table.c:
            raise Misuse(f"table {table.name!r} has no column {column!r}; a guard needs one, BIGINT, for the fence")
        self.table = table
        self.fence: Any = table.c[column]

    def update(self, token: FencingToken, where: Sequence[Any], values: Mapping[str, Any]) -> Update:
        """Return the UPDATE of those rows that no later holder has written."""
        given = {**self._columns(values), self.fence: token.fence}
        return self.table.update().where(*self._all(where), self._not_above(token.fence)).values(given)

    def delete(self, token: FencingToken, where: Sequence[Any]) -> Delete:
        """Return the DELETE of those rows that no later holder has written."""
        return self.table.delete().where(*self._all(where), self._not_above(token.fence))

    def later(self, token: FencingToken, where: Sequence[Any]) -> Select[tuple[int]]:
        """Return the question for the highest fence among the rows that a guarded write had to pass over.

        It locks that row, which makes it a current read: a snapshot (REPEATABLE READ) could show it as it was
        before the later holder wrote, although the write itself met it as it is.
        """
        passed_over = select(self.fence).where(*where, self.fence > token.fence)
        return passed_over.order_by(self.fence.desc()).limit(1).with_for_update()

    def upsert(
        self, dialect: str, token: FencingToken, key: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[Insert, list[ColumnElement[bool]]]:
        """Return the guarded INSERT-or-UPDATE of one row in the words of `dialect`, and what names the row.

        Raises:
            Misuse: the key is empty, shares a column with the values, or the dialect has no such statement.
        """
        keys, others = self._columns(key), self._columns(values)
        if not keys or keys.keys() & others.keys():
            raise Misuse("upsert() needs the row's key in key={...} and everything else in values={...}")
        names = [column == value for column, value in keys.items()]
        row = {column.name: value for column, value in {**keys, **others, self.fence: token.fence}.items()}
        written: list[Any] = [*others, self.fence]  # the fence last: MySQL assigns from left to right
        if dialect in ("postgresql", "sqlite"):
            make: Any = postgresql_insert if dialect == "postgresql" else sqlite_insert
            insert = make(self.table).values(row)
            return insert.on_conflict_do_update(
                index_elements=list(keys),
                set_={column: insert.excluded[column.name] for column in written},
                where=self._not_above(token.fence),
            ), names
        if dialect in ("mysql", "mariadb"):
            wrote: Any = mysql_insert(self.table).values(row)
            ours = self._not_above(token.fence)
            return wrote.on_duplicate_key_update(
                [(column.name, case((ours, wrote.inserted[column.name]), else_=column)) for column in written]
            ), names
        raise Misuse(f"no guarded upsert on {dialect!r}; insert the row once and use update()")

    def names_one_row(self, where: Sequence[Any]) -> bool:
        """Return whether `where` gives every column of the primary key one value."""
        pinned = {
            clause.left
            for clause in where
            if isinstance(clause, BinaryExpression)
            and clause.operator is operators.eq
            and isinstance(clause.right, BindParameter)
        }
        keys = set(self.table.primary_key.columns)
        return bool(keys) and keys <= pinned

    def _not_above(self, fence: int) -> ColumnElement[bool]:
        held: ColumnElement[bool] = self.fence <= fence
        return or_(self.fence.is_(None), held) if self.fence.nullable else held

    def _all(self, where: Sequence[Any]) -> Sequence[Any]:
        if not where:
            raise Misuse("a guarded write needs to be told which rows; for all of them pass sqlalchemy.true()")
        return where

    def _columns(self, values: Mapping[str, Any]) -> dict[Any, Any]:
        unknown = [name for name in values if name not in self.table.c]
        if unknown:
            raise Misuse(f"table {self.table.name!r} has no column {unknown[0]!r}")
        if self.fence.name in values:
            raise Misuse(f"column {self.fence.name!r} is written by the guard; leave it out of the values")
        return {self.table.c[name]: value for name, value in values.items()}
