"""Insert a row unless its key is there: the statement that both the journal and the barrier stand on.

It never raises for a duplicate (that would abort a PostgreSQL transaction), and where another transaction is
inserting the same key it waits for that transaction's end.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, Table, insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

__all__ = ["insert_once"]


def insert_once(table: Table, dialect: str, source: tuple[list[str], Any] | None = None) -> Insert:
    """Return INSERT ... ON CONFLICT DO NOTHING in the words of `dialect`; rowcount tells whether it inserted.

    Args:
        table: where to insert.
        dialect: SQLAlchemy's name of the dialect.
        source: column names and a SELECT, for INSERT ... SELECT.
    """
    if dialect == "postgresql":
        conflict = postgresql_insert(table)
        if source is not None:
            conflict = conflict.from_select(source[0], source[1])
        return _counted(conflict.on_conflict_do_nothing())
    if dialect == "sqlite":
        lite = sqlite_insert(table)
        if source is not None:
            lite = lite.from_select(source[0], source[1])
        return _counted(lite.on_conflict_do_nothing())
    # MariaDB, MySQL: IGNORE also turns a text that is too long into a warning, so lengths are checked before.
    plain = insert(table).prefix_with("IGNORE")
    return _counted(plain if source is None else plain.from_select(source[0], source[1]))


def _counted(statement: Insert) -> Insert:
    # SQLAlchemy keeps the rowcount of an INSERT only on request; without it every driver but SQLite's says -1.
    return statement.execution_options(preserve_rowcount=True)
