"""Making the tables where they are missing; any number of processes may do this at the same time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect

from backstay.errors import Misuse

from .schema import VERSION
from .statements import Statements
from .wires import Trouble, Wire

__all__ = ["prepare"]

COMPONENT = "locks"
_TURN = 7310578202  # the key of the advisory lock under which PostgreSQL makes the tables


def prepare(wire: Wire, statements: Statements, dialect: Dialect, *, again: bool = False) -> None:
    """Check the version of the tables, and make them where there are none, or, `again`, where one may be missing.

    Raises:
        Misuse: a newer Backstay made them, or they are missing and this user may not make them.
    """
    try:
        found = _version(wire, statements)
    except Exception as error:
        if wire.diagnose(error) is not Trouble.NO_TABLE:
            raise
        found = None
    if found is not None and found > VERSION:
        raise Misuse(f"the tables of locks have version {found}, this Backstay knows {VERSION}; upgrade Backstay")
    if found is None or again:
        try:
            _create(wire, statements, dialect)
        except Exception as error:
            if wire.diagnose(error) is not Trouble.REFUSED:
                raise
            raise Misuse(
                f"the tables of locks are missing and could not be made ({error}); make them in your own migration: "
                "backstay.locks.backends.sql.schema.metadata"
            ) from error


def _version(wire: Wire, statements: Statements) -> int | None:
    row: Any = wire.ask(statements.version, which=COMPONENT)
    return None if row is None else int(row[0])


def _create(wire: Wire, statements: Statements, dialect: Dialect) -> None:
    texts = list(statements.create)
    if dialect.name == "postgresql":
        # CREATE TABLE IF NOT EXISTS is not safe against itself on PostgreSQL: several commands in one message are
        # one transaction there, also behind a pooler, and the first of them makes the others wait.
        texts = [";".join([f"SELECT pg_advisory_xact_lock({_TURN})", *texts])]
    for text in texts:
        wire.send(text).close()
    wire.tell(statements.new_version, component=COMPONENT, version=VERSION)
