"""A transaction after its decision (T7, T8): acknowledgements, another attempt, its end, and its removal."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Connection, bindparam, case, delete, exists, literal, null, select, update

from ..journal import BranchUpdate
from ..tcc.states import BRANCH, TRANSACTION, BranchEvent, Event, State, sources
from .branch_log import record
from .clock import NEVER, DatabaseNow, milliseconds
from .schema import branches, transactions
from .standing import OPEN_STATES, standing

__all__ = ["purge", "retry", "settle"]

_t, _b = transactions.c, branches.c

_end = {
    event: update(transactions)
    .where(
        _t.gtrid == bindparam("b_gtrid"),
        _t.state.in_(sources(event)),
        ~exists(
            select(literal(1)).where(
                _b.gtrid == bindparam("b_gtrid"),
                _b.state != acknowledged,
                _b.branch.not_in(bindparam("b_branches", expanding=True)),
            )
        ),
    )
    .values(state=TRANSACTION[event][1].value, ended_ms=DatabaseNow())
    for event, acknowledged in ((Event.ALL_CONFIRMED, "confirmed"), (Event.ALL_CANCELLED, "cancelled"))
}
_postpone = (
    update(transactions)
    .where(_t.gtrid == bindparam("b_gtrid"), _t.state.in_(OPEN_STATES))
    .values(
        due_ms=case(
            (bindparam("delay", type_=BigInteger) >= NEVER, NEVER),
            else_=DatabaseNow() + bindparam("delay", type_=BigInteger),
        )
    )
)
_ending = {
    BranchEvent.CONFIRM_ACKED: Event.ALL_CONFIRMED,
    BranchEvent.CANCEL_ACKED: Event.ALL_CANCELLED,
}


def settle(connection: Connection, gtrid: str, updates: Sequence[BranchUpdate], delay: float) -> State | None:
    """See `Journal.settle`: first the transaction's row, then its branches, as everywhere, so none waits in a ring."""
    for kind, event in _ending.items():
        acked = [one.id for one in updates if one.event is kind]
        if (acked or not updates) and connection.execute(
            _end[event], {"b_gtrid": gtrid, "b_branches": acked}
        ).rowcount == 1:
            record(connection, gtrid, updates)
            return TRANSACTION[event][1]
    connection.execute(_postpone, {"b_gtrid": gtrid, "delay": milliseconds(delay)})
    record(connection, gtrid, updates)
    return standing(connection, gtrid)


def retry(connection: Connection, gtrid: str | None, branch: str | None) -> int:
    """See `Journal.retry`."""
    decided = [State.CONFIRMING.value, State.CANCELLING.value]
    due = update(transactions).where(_t.state.in_(decided)).values(due_ms=DatabaseNow())
    revive = update(branches).where(_b.state.in_(sources(BranchEvent.RETRY)))
    if gtrid is not None:
        due = due.where(_t.gtrid == gtrid)
        revive = revive.where(_b.gtrid == gtrid)
    if branch is not None:
        revive = revive.where(_b.branch == branch)
    moved = connection.execute(due).rowcount
    connection.execute(revive.values(state=BRANCH[BranchEvent.RETRY][1].value, attempts=0))
    return moved


def purge(connection: Connection, age: float, limit: int) -> int:
    """See `Journal.purge`."""
    long_ago = DatabaseNow() - milliseconds(age)
    old = select(_t.gtrid).where(_t.ended_ms.is_not(null()), _t.ended_ms < long_ago).limit(limit)
    gtrids = list(connection.scalars(old))
    if gtrids:
        connection.execute(delete(branches).where(_b.gtrid.in_(gtrids)))
        connection.execute(delete(transactions).where(_t.gtrid.in_(gtrids)))
    return len(gtrids)
