"""The journal's reads, each a function over one connection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Integer, Row, and_, bindparam, literal, or_, select

from ..journal import BranchRecord, Lease, TransactionRecord
from ..tcc.states import OPEN, BranchState, State
from ..values import Target
from .clock import DatabaseNow
from .schema import branches, coordinators, transactions

__all__ = ["due", "ended", "find", "read", "recent", "time", "unfinished"]

_t, _b, _c = transactions.c, branches.c, coordinators.c
_alive = (
    select(literal(1))
    .where(_c.owner == _t.owner, _c.epoch == _t.epoch, _c.lease_until_ms >= DatabaseNow())
    .correlate(transactions)
    .exists()
)
_select = select(transactions, DatabaseNow().label("now_ms"), _alive.label("lease_alive"))
_by_key = _select.where(_t.idempotency_key == bindparam("b_key"))
_by_gtrid = _select.where(_t.gtrid == bindparam("b_gtrid"))
_of = select(branches).where(_b.gtrid.in_(bindparam("b_gtrids", expanding=True))).order_by(_b.gtrid, _b.position)


_time = select(DatabaseNow())


def time(connection: Connection) -> float:
    """See `Journal.time`."""
    return int(connection.scalars(_time).one()) / 1000


def find(connection: Connection, key: str) -> TransactionRecord | None:
    """See `Journal.find`."""
    row = connection.execute(_by_key, {"b_key": key}).first()
    return None if row is None else _record(row, ())


def read(connection: Connection, gtrid: str) -> TransactionRecord | None:
    """See `Journal.read`."""
    found = _with_branches(connection, connection.execute(_by_gtrid, {"b_gtrid": gtrid}).all())
    return found[0] if found else None


_due = (
    _select.where(
        _t.owner == bindparam("b_owner"),
        _t.epoch == bindparam("b_epoch"),
        or_(
            and_(
                _t.state.in_([State.CONFIRMING.value, State.CANCELLING.value]),
                _t.due_ms <= DatabaseNow(),
            ),
            _t.state == State.TRYING.value,
        ),
    )
    .order_by(_t.begun_ms)
    .limit(bindparam("count", type_=Integer))
)


def due(connection: Connection, lease: Lease, active: Collection[str], limit: int) -> list[TransactionRecord]:
    """See `Journal.due`."""
    values = {"b_owner": lease.owner, "b_epoch": lease.epoch, "count": limit + len(active)}
    rows = [row for row in connection.execute(_due, values) if row.gtrid not in active]
    return _with_branches(connection, rows[:limit])


def unfinished(connection: Connection, limit: int) -> list[TransactionRecord]:
    """See `Journal.unfinished`."""
    waiting = _select.where(_t.state.in_(sorted(state.value for state in OPEN))).order_by(_t.begun_ms).limit(limit)
    return _with_branches(connection, connection.execute(waiting).all())


def recent(connection: Connection, limit: int) -> list[TransactionRecord]:
    """See `Journal.recent`."""
    return [_record(row, ()) for row in connection.execute(_select.order_by(_t.begun_ms.desc()).limit(limit))]


def ended(connection: Connection, gtrids: Sequence[str], safety: float) -> list[str]:
    """See `Journal.ended`."""
    long_ago = select(_t.gtrid).where(
        _t.gtrid.in_(gtrids), _t.ended_ms.is_not(None), _t.ended_ms < DatabaseNow() - round(safety * 1000)
    )
    return list(connection.scalars(long_ago))


def _with_branches(connection: Connection, rows: Sequence[Row[Any]]) -> list[TransactionRecord]:
    if not rows:
        return []
    grouped: dict[str, list[BranchRecord]] = {row.gtrid: [] for row in rows}
    for row in connection.execute(_of, {"b_gtrids": list(grouped)}):
        grouped[row.gtrid].append(_branch(row))
    return [_record(row, tuple(grouped[row.gtrid])) for row in rows]


def _branch(row: Row[Any]) -> BranchRecord:
    return BranchRecord(
        id=row.branch,
        position=row.position,
        target=Target(kind=row.kind, address=row.address),
        payload=row.payload,
        state=BranchState(row.state),
        attempts=row.attempts,
        error=row.error,
    )


def _record(row: Row[Any], logged: tuple[BranchRecord, ...]) -> TransactionRecord:
    now = int(row.now_ms)
    return TransactionRecord(
        gtrid=row.gtrid,
        key=row.idempotency_key,
        state=State(row.state),
        lease=Lease(owner=row.owner, epoch=row.epoch),
        lease_alive=bool(row.lease_alive),
        age=(now - row.begun_ms) / 1000,
        deadline_in=(row.deadline_ms - now) / 1000,
        due_in=(row.due_ms - now) / 1000,
        ended_for=None if row.ended_ms is None else (now - row.ended_ms) / 1000,
        reason=row.reason,
        refused=bool(row.refused),
        result=row.result,
        branches=logged,
    )
