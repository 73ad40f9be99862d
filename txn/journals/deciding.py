"""A transaction up to its decision (T1, T2, T5): it is opened, branches join it, it is decided once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from sqlalchemy import BigInteger, Connection, Insert, Integer, bindparam, update

from ..journal import BranchRecord, BranchUpdate, Lease
from ..once import insert_once
from ..tcc.states import TRANSACTION, Event, State, sources
from .branch_log import log, record
from .clock import DatabaseNow, milliseconds
from .leases import lease_holds
from .schema import transactions
from .standing import standing

__all__ = ["decide", "enlist", "open_transaction"]

_t = transactions.c


@cache
def _open_statement(dialect: str) -> Insert:
    return insert_once(transactions, dialect).values(
        kind="tcc",
        state=State.TRYING.value,
        begun_ms=DatabaseNow(),
        deadline_ms=DatabaseNow() + bindparam("deadline", type_=BigInteger),
        due_ms=DatabaseNow(),
        ended_ms=None,
        reason="",
        refused=False,
        result=None,
    )


def open_transaction(
    connection: Connection, lease: Lease, gtrid: str, key: str | None, deadline: float, logged: Sequence[BranchRecord]
) -> bool:
    """See `Journal.open`.

    The lease is not looked at: a transaction of a fenced lease is an orphan from its first moment, and the
    next look for orphans cancels it.
    """
    values = {
        "gtrid": gtrid,
        "idempotency_key": key,
        "owner": lease.owner,
        "epoch": lease.epoch,
        "branches": len(logged),
        "deadline": milliseconds(deadline),
    }
    if connection.execute(_open_statement(connection.dialect.name), values).rowcount != 1:
        return False
    log(connection, gtrid, logged)
    return True


_enlist = (
    update(transactions)
    .where(
        _t.gtrid == bindparam("b_gtrid"),
        _t.state == State.TRYING.value,
        _t.owner == bindparam("b_owner"),
        _t.epoch == bindparam("b_epoch"),
    )
    .values(branches=_t.branches + bindparam("more", type_=Integer))
)


def enlist(
    connection: Connection, lease: Lease, gtrid: str, logged: Sequence[BranchRecord], tried: Sequence[BranchUpdate]
) -> bool:
    """See `Journal.enlist`: takes the lock of the transaction's row, as the decision does, so none joins after it."""
    values = {"b_gtrid": gtrid, "b_owner": lease.owner, "b_epoch": lease.epoch, "more": len(logged)}
    if connection.execute(_enlist, values).rowcount != 1:
        return False
    record(connection, gtrid, tried)
    log(connection, gtrid, logged)
    return True


_owned = (
    _t.gtrid == bindparam("b_gtrid"),
    _t.owner == bindparam("b_owner"),
    _t.epoch == bindparam("b_epoch"),
)
_decide = {
    event: update(transactions)
    .where(*_owned, _t.state.in_(sources(event)), *condition)
    .values(
        state=TRANSACTION[event][1].value,
        due_ms=DatabaseNow(),
        reason=bindparam("b_reason"),
        refused=bindparam("b_refused"),
        result=bindparam("b_result"),
    )
    for event, condition in (
        (Event.DECIDE_CONFIRM, (_t.deadline_ms > DatabaseNow(), lease_holds)),
        (Event.DECIDE_CANCEL, ()),
    )
}


def decide(
    connection: Connection,
    lease: Lease,
    gtrid: str,
    event: Event,
    tried: Sequence[BranchUpdate],
    reason: str,
    refused: bool,
    result: str | None,
) -> State | None:
    """See `Journal.decide`."""
    values = {
        "b_gtrid": gtrid,
        "b_owner": lease.owner,
        "b_epoch": lease.epoch,
        "b_reason": reason[:1000],
        "b_refused": refused,
        "b_result": result,
    }
    if connection.execute(_decide[event], values).rowcount != 1:
        return standing(connection, gtrid)
    record(connection, gtrid, tried)
    return TRANSACTION[event][1]
