"""What is sent to the database, compiled once for its dialect and driver: every statement commits by itself.

No transaction stays open between two messages, so a client that is stopped at any moment blocks nobody, and a pooler
that gives each statement to another server connection changes nothing. What was read is written back only if its
version is still the same (compare and set).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ClauseElement, Dialect, Integer, bindparam, delete, insert, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from . import schema
from .clock import DatabaseMicroseconds

__all__ = ["Statement", "Statements"]

Bound = dict[str, Any] | tuple[Any, ...]


class Statement:
    """One statement as the driver wants it."""

    __slots__ = ("_defaults", "_order", "text")

    def __init__(self, clause: ClauseElement, dialect: Dialect) -> None:
        compiled: Any = clause.compile(dialect=dialect)
        self.text = str(compiled)
        self._order: list[str] | None = compiled.positiontup
        self._defaults: dict[str, Any] = {
            name: bind.value for name, bind in compiled.binds.items() if not bind.required
        }

    def bind(self, **values: Any) -> Bound:
        """Return its parameters in the driver's form."""
        if self._defaults:
            values = self._defaults | values
        return values if self._order is None else tuple([values[name] for name in self._order])


def _new(table: Any, dialect: Dialect) -> ClauseElement:
    """Return an insert that leaves a row which is there already alone."""
    values: dict[str, Any] = {column.name: bindparam(column.name) for column in table.columns}
    if dialect.name == "postgresql":
        return postgresql.insert(table).values(values).on_conflict_do_nothing()
    if dialect.name == "sqlite":
        return sqlite.insert(table).values(values).on_conflict_do_nothing()
    return insert(table).values(values).prefix_with("IGNORE")


def _at(table: Any, *columns: Any) -> ClauseElement:
    """Return a select of the clock and, where the row is there, its columns: always one row."""
    one: Any = select(literal_column("1", Integer).label("one")).subquery()
    joined = one.outerjoin(table, table.c.id == bindparam("key"))
    return select(DatabaseMicroseconds(), *columns).select_from(joined)


def _changed(table: Any, *columns: str) -> ClauseElement:
    """Return an update of a row that still has the version which was read."""
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("version", *columns)}
    return update(table).where(table.c.id == bindparam("key"), table.c.version == bindparam("read")).values(values)


class Statements:
    """All statements, for one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        locks, documents, versions = schema.locks, schema.documents, schema.versions

        def ready(clause: ClauseElement) -> Statement:
            return Statement(clause, dialect)

        self.lock = ready(_at(locks, locks.c.version, locks.c.fence, locks.c.state))
        self.new_lock = ready(_new(locks, dialect))
        self.change_lock = ready(_changed(locks, "size", "fence", "owner", "expires_at", "busy_until", "state"))
        self.busy = ready(
            select(locks.c.state)
            .where(locks.c.namespace == bindparam("space"), locks.c.busy_until > DatabaseMicroseconds())
            .order_by(locks.c.busy_until.desc())
            .limit(bindparam("most"))
        )
        self.document = ready(_at(documents, documents.c.version, documents.c.expires, documents.c.text))
        self.new_document = ready(_new(documents, dialect))
        self.change_document = ready(_changed(documents, "expires", "text"))
        self.forget_documents = ready(
            delete(documents).where(documents.c.expires > 0, documents.c.expires < bindparam("before"))
        )
        self.version = ready(select(versions.c.version).where(versions.c.component == bindparam("which")))
        self.new_version = ready(_new(versions, dialect))
        self.create = [str(CreateTable(table, if_not_exists=True).compile(dialect=dialect))
                       for table in schema.metadata.sorted_tables]  # fmt: skip
