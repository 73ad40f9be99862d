"""Guarded rows of the ORM: every flush compares and raises the fence in the statement that writes the row.

Theory of operation. `FencedRow` gives a class a fence column, which is its version column as far as SQLAlchemy
is concerned (see `column`). Just before a row is written, what was loaded as its version is replaced by the
fence that the session offers, so the statement reads

    UPDATE orders SET state = :state, fence = :offered WHERE id = :id AND fence <= :offered

It matches one row or none. None means that a later holder has written the row, or that the row is gone: which of
the two is looked up on the same connection, before anything else happens, and only the first is a `StaleFence`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, Connection, Delete, Update, event, select
from sqlalchemy.orm import Mapped, Mapper, Session, mapped_column, object_session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql.elements import BinaryExpression

from backstay.errors import Misuse
from backstay.locks.guards.errors import StaleFence
from backstay.locks.guards.token import FencingToken

from .column import FenceNumber, Offered, Offering, Unfenced

__all__ = ["OFFER", "FencedRow", "offered", "watch"]

OFFER = "backstay_fence"
"""Where a session's `info` has the token of the `fenced` block that it is in."""


class FencedRow:
    """A mixin for mapped classes whose rows refuse the late writes of earlier holders of their lock.

        class Order(FencedRow, Base): ...
        with locks.mutex("order:42") as lease, Session(engine) as session, fenced(session, lease):
            session.get_one(Order, 42).state = "paid"
            session.commit()

    What is guaranteed: an update or delete of a row that a later holder has written is refused with `StaleFence`
    and its transaction rolled back; writing such rows outside of a `fenced` block is refused. The check is part
    of the statement that writes. What is not: a row is always written under the same lock, or fences of two locks
    are compared, which mean nothing to each other (F7). A deleted row has no memory: a late writer that inserts
    it anew is not recognised; keep the row, or keep the fence in `SqlFences`. SQL text and Core statements on
    the table are not seen.

    The column is `fence`, BIGINT NOT NULL; add it to an existing table with DEFAULT 0. It takes the place of
    SQLAlchemy's `version_id_col`, of which a class can have one. Not for `MappedAsDataclass`: use a `TableGuard`.
    """

    __mapper_args__: Any
    fence: Mapped[int] = mapped_column(FenceNumber, nullable=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        given: Any = cls.__dict__.get("__mapper_args__", {})
        below_a_mapped_one = any(hasattr(base, "__mapper__") for base in cls.__mro__[1:])
        if isinstance(given, dict) and not below_a_mapped_one:  # a hierarchy has one version column, its root's
            cls.__mapper_args__ = {**given, **_MAPPER_ARGUMENTS}
        super().__init_subclass__(**kwargs)


_MAPPER_ARGUMENTS: Any = {"version_id_col": FencedRow.__dict__["fence"], "version_id_generator": False}


def offered(session: Session | None, what: str) -> FencingToken:
    """Return the token under which `session` writes.

    Raises:
        Unfenced: it is in no `fenced` block.
    """
    token: FencingToken | None = None if session is None else session.info.get(OFFER)
    if token is None:
        raise Unfenced(f"{what} is a fenced row: write it inside `with fenced(session, lease):`")
    return token


def _configured(mapper: Mapper[Any], cls: type[FencedRow]) -> None:
    column: Any = mapper.version_id_col
    if column is None or not isinstance(column.type, FenceNumber) or mapper.version_id_generator is not False:
        raise Misuse(
            f"{cls.__name__} is a FencedRow whose own __mapper_args__ hide the fence; make them a plain dict without "
            "a version_id_col"
        )
    if not mapper.base_mapper.confirm_deleted_rows:
        raise Misuse(f"{cls.__name__} has confirm_deleted_rows=False: a refused delete would go unnoticed")


def _before_insert(mapper: Mapper[Any], connection: Connection, target: FencedRow) -> None:
    session = object_session(target)
    token = offered(session, mapper.class_.__name__)
    target.fence = token.fence
    watch(connection)
    # A new object in place of one that is deleted in the same flush becomes an UPDATE, compared with what
    # was loaded for the deleted one.
    replaced = session.identity_map.get(mapper.identity_key_from_instance(target)) if session is not None else None
    if replaced is not None:
        set_committed_value(replaced, "fence", Offered.of(token))


def _before_update(mapper: Mapper[Any], connection: Connection, target: FencedRow) -> None:
    session = object_session(target)
    if session is None or not session.is_modified(target, include_collections=False):
        return  # called for every object that was touched; no statement follows for this one
    token = offered(session, mapper.class_.__name__)
    watch(connection)
    set_committed_value(target, "fence", Offered.of(token))
    target.fence = token.fence


def _before_delete(mapper: Mapper[Any], connection: Connection, target: FencedRow) -> None:
    token = offered(object_session(target), mapper.class_.__name__)
    watch(connection)
    set_committed_value(target, "fence", Offered.of(token))


def _after_write(mapper: Mapper[Any], connection: Connection, target: FencedRow) -> None:
    # A relationship with post_update writes the row once more, and compares it with what is committed now.
    session = object_session(target)
    if session is not None and OFFER in session.info:
        set_committed_value(target, "fence", Offered.of(session.info[OFFER]))


def watch(connection: Connection) -> None:
    """See what guarded writes match, from now on."""
    if not event.contains(connection.engine, "after_execute", _after_execute):
        # The engine's listeners serve connections that are made later; this one is there already.
        event.listen(connection.engine, "after_execute", _after_execute)
        event.listen(connection, "after_execute", _after_execute)


def _after_execute(
    connection: Connection, statement: Any, multiparams: Any, params: Any, options: Any, result: Any
) -> None:
    if not isinstance(statement, (Update, Delete)):
        return
    comparison, others = _parts(statement)
    if comparison is None:
        return
    rows: list[Any] = list(multiparams) or [params]
    if result.rowcount == len(rows):
        return
    fence = comparison.left
    for row in rows:
        mine: Offered = row[comparison.right.key]
        same = [clause.left == row[clause.right.key] for clause in others]
        # A current read: REPEATABLE READ would show the row as it was when the transaction began.
        newer = select(fence).where(*same, fence > int(mine)).with_for_update()
        highest = connection.execute(newer).scalar()
        if highest is not None:
            raise StaleFence.at(f"a row of {fence.table.name!r}", lock=mine.lock, fence=int(mine), highest=highest)


def _parts(statement: Update | Delete) -> tuple[Any, list[Any]]:
    """Return the comparison of fences in a statement of the unit of work, None if it has none, and the others."""
    where: Any = statement.whereclause
    parts: list[Any] = [
        clause
        for clause in getattr(where, "clauses", ())
        if isinstance(clause, BinaryExpression) and isinstance(clause.right, BindParameter)
    ]
    comparison = next((part for part in parts if isinstance(part.right.type, Offering)), None)
    return comparison, [part for part in parts if part is not comparison]


for _name, _listener in (
    ("mapper_configured", _configured),
    ("before_insert", _before_insert),
    ("before_update", _before_update),
    ("before_delete", _before_delete),
    ("after_insert", _after_write),
    ("after_update", _after_write),
):
    event.listen(FencedRow, _name, _listener, propagate=True)
