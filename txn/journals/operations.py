"""The journal's writes, each a function over one connection that is inside a transaction.

Written once for both makes: the asyncio make runs them by `run_sync`. Statements are built once, at import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from sqlalchemy import (
    BigInteger,
    Connection,
    Insert,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    exists,
    literal,
    null,
    or_,
    select,
    update,
)

from ..journal import BranchRecord, BranchUpdate, Lease
from ..once import insert_once
from ..tcc.states import BRANCH, OPEN, TRANSACTION, BranchEvent, Event, State, sources
from .clock import DatabaseNow
from .schema import branches, coordinators, transactions

__all__ = [
    "decide",
    "enlist",
    "fence",
    "join",
    "leave",
    "neglected",
    "open_transaction",
    "purge",
    "renew",
    "retry",
    "settle",
    "take_over",
]

NEVER = 2**53
"""Milliseconds: a due time that does not come."""

_t, _b, _c = transactions.c, branches.c, coordinators.c
_open = sorted(state.value for state in OPEN)
_lease_holds = select(literal(1)).where(_c.owner == _t.owner, _c.epoch == _t.epoch).correlate(transactions).exists()


def _ms(seconds: float) -> int:
    return NEVER if math.isinf(seconds) else round(seconds * 1000)


def _short(text: str | None) -> str | None:
    return text if text is None else text[:1000]


# --- leases ------------------------------------------------------------------------------------------


@cache
def _join(dialect: str) -> Insert:
    return insert_once(coordinators, dialect).values(lease_until_ms=DatabaseNow() + bindparam("ttl", type_=BigInteger))


def join(connection: Connection, owner: str, epoch: int, ttl: float) -> Lease:
    """See `Journal.join`."""
    statement = _join(connection.dialect.name)
    if connection.execute(statement, {"owner": owner, "epoch": epoch, "ttl": _ms(ttl)}).rowcount == 1:
        return Lease(owner=owner, epoch=epoch)
    found = connection.scalar(select(_c.epoch).where(_c.owner == owner)) or 0
    connection.execute(
        update(coordinators)
        .where(_c.owner == owner)
        .values(epoch=max(epoch, found + 1), lease_until_ms=DatabaseNow() + _ms(ttl))
    )
    return Lease(owner=owner, epoch=max(epoch, found + 1))


_renew = (
    update(coordinators)
    .where(_c.owner == bindparam("b_owner"), _c.epoch == bindparam("b_epoch"))
    .values(lease_until_ms=DatabaseNow() + bindparam("ttl", type_=BigInteger))
)


def renew(connection: Connection, lease: Lease, ttl: float) -> bool:
    """See `Journal.renew`."""
    return connection.execute(_renew, {"b_owner": lease.owner, "b_epoch": lease.epoch, "ttl": _ms(ttl)}).rowcount == 1


def leave(connection: Connection, lease: Lease) -> None:
    """See `Journal.leave`."""
    connection.execute(delete(coordinators).where(_c.owner == lease.owner, _c.epoch == lease.epoch))


# --- T1, T2 ------------------------------------------------------------------------------------------


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
        "deadline": _ms(deadline),
    }
    if connection.execute(_open_statement(connection.dialect.name), values).rowcount != 1:
        return False
    _log(connection, gtrid, logged)
    return True


_insert_branches = branches.insert()


def _log(connection: Connection, gtrid: str, logged: Sequence[BranchRecord]) -> None:
    rows = [
        {
            "gtrid": gtrid,
            "branch": branch.id,
            "position": branch.position,
            "kind": branch.target.kind,
            "address": branch.target.address,
            "payload": branch.payload,
            "state": branch.state.value,
            "attempts": 0,
            "error": None,
        }
        for branch in logged
    ]
    connection.execute(_insert_branches, rows if len(rows) > 1 else rows[0])


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
    _record(connection, gtrid, tried)
    _log(connection, gtrid, logged)
    return True


# --- T4, T7: what requests to branches came to -------------------------------------------------------

_move = {
    event: update(branches)
    .where(
        _b.gtrid == bindparam("b_gtrid"),
        _b.branch.in_(bindparam("b_branches", expanding=True)),
        _b.state.in_(sources(event)),
    )
    .values(state=BRANCH[event][1].value)
    for event in BranchEvent
}
_note = (
    update(branches)
    .where(_b.gtrid == bindparam("b_gtrid"), _b.branch == bindparam("b_branch"))
    .values(attempts=_b.attempts + 1, error=bindparam("b_error"))
)


def _record(connection: Connection, gtrid: str, updates: Sequence[BranchUpdate]) -> None:
    moved: dict[BranchEvent, list[str]] = {}
    for one in updates:
        if one.event is not None:
            moved.setdefault(one.event, []).append(one.id)
    for event, ids in moved.items():
        connection.execute(_move[event], {"b_gtrid": gtrid, "b_branches": ids})
    noted = [
        {"b_gtrid": gtrid, "b_branch": one.id, "b_error": _short(one.error)} for one in updates if one.error is not None
    ]
    if noted:
        connection.execute(_note, noted)


# --- T5 ----------------------------------------------------------------------------------------------

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
        (Event.DECIDE_CONFIRM, (_t.deadline_ms > DatabaseNow(), _lease_holds)),
        (Event.DECIDE_CANCEL, ()),
    )
}
_state = select(_t.state).where(_t.gtrid == bindparam("b_gtrid"))


def _standing(connection: Connection, gtrid: str) -> State | None:
    found = connection.scalar(_state, {"b_gtrid": gtrid})
    return None if found is None else State(found)


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
        return _standing(connection, gtrid)
    _record(connection, gtrid, tried)
    return TRANSACTION[event][1]


# --- T7, T8 ------------------------------------------------------------------------------------------


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
    .where(_t.gtrid == bindparam("b_gtrid"), _t.state.in_(_open))
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
            _record(connection, gtrid, updates)
            return TRANSACTION[event][1]
    connection.execute(_postpone, {"b_gtrid": gtrid, "delay": _ms(delay)})
    _record(connection, gtrid, updates)
    return _standing(connection, gtrid)


# --- recovery, operators, clean-up -------------------------------------------------------------------

_lapsed = delete(coordinators).where(
    _c.lease_until_ms < DatabaseNow(), ~and_(_c.owner == bindparam("b_owner"), _c.epoch == bindparam("b_epoch"))
)
_neglected = or_(
    and_(_t.state.in_(_open), ~_lease_holds),
    and_(_t.state == State.TRYING.value, _t.deadline_ms + bindparam("grace", type_=BigInteger) < DatabaseNow()),
)
_orphans = select(_t.gtrid, _t.state).where(_neglected).order_by(_t.begun_ms).limit(bindparam("count", type_=Integer))
_claim = update(transactions).where(_t.gtrid.in_(bindparam("b_gtrids", expanding=True)), _neglected)


def take_over(connection: Connection, lease: Lease, grace: float, limit: int) -> list[str]:
    """See `Journal.take_over`."""
    connection.execute(_lapsed, {"b_owner": lease.owner, "b_epoch": lease.epoch})
    chosen = _orphans.with_for_update(skip_locked=True, of=transactions)
    found = connection.execute(chosen, {"grace": _ms(grace), "count": limit}).all()
    taken: list[str] = []
    owner = {"owner": lease.owner, "epoch": lease.epoch}
    for undecided in (True, False):
        gtrids = [gtrid for gtrid, state in found if (state == State.TRYING.value) is undecided]
        if not gtrids:
            continue
        claim = _claim.values(**owner, due_ms=DatabaseNow())
        if undecided:
            reason = "its coordinator died or missed the deadline"
            claim = claim.where(_t.state == State.TRYING.value).values(state=State.CANCELLING.value, reason=reason)
        connection.execute(claim, {"b_gtrids": gtrids, "grace": _ms(grace)})
        owned = select(_t.gtrid).where(
            _t.gtrid.in_(gtrids), _t.owner == lease.owner, _t.epoch == lease.epoch, _t.state.in_(_open)
        )
        taken.extend(connection.scalars(owned))
    return taken


def fence(connection: Connection, lease: Lease) -> int:
    """See `Journal.fence`."""
    others = delete(coordinators).where(~and_(_c.owner == lease.owner, _c.epoch == lease.epoch))
    return connection.execute(others).rowcount


def neglected(connection: Connection, grace: float) -> bool:
    """Return whether `take_over` would find something; a read, so that an idle recoverer writes nothing."""
    if connection.scalar(select(literal(1)).where(_c.lease_until_ms < DatabaseNow()).limit(1)) is not None:
        return True
    return connection.execute(_orphans, {"grace": _ms(grace), "count": 1}).first() is not None


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
    old = select(_t.gtrid).where(_t.ended_ms.is_not(null()), _t.ended_ms < DatabaseNow() - _ms(age)).limit(limit)
    gtrids = list(connection.scalars(old))
    if gtrids:
        connection.execute(delete(branches).where(_b.gtrid.in_(gtrids)))
        connection.execute(delete(transactions).where(_t.gtrid.in_(gtrids)))
    return len(gtrids)
