"""Transactions whose coordinator died or missed the deadline: whether there are any, and taking them over."""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, Integer, and_, bindparam, delete, literal, or_, select, update

from ..journal import Lease
from ..tcc.states import State
from .clock import DatabaseNow, milliseconds
from .leases import lease_holds
from .schema import coordinators, transactions
from .standing import OPEN_STATES

__all__ = ["neglected", "take_over"]

_t, _c = transactions.c, coordinators.c

_lapsed = delete(coordinators).where(
    _c.lease_until_ms < DatabaseNow(), ~and_(_c.owner == bindparam("b_owner"), _c.epoch == bindparam("b_epoch"))
)
_neglected = or_(
    and_(_t.state.in_(OPEN_STATES), ~lease_holds),
    and_(_t.state == State.TRYING.value, _t.deadline_ms + bindparam("grace", type_=BigInteger) < DatabaseNow()),
)
_orphans = select(_t.gtrid, _t.state).where(_neglected).order_by(_t.begun_ms).limit(bindparam("count", type_=Integer))
_claim = update(transactions).where(_t.gtrid.in_(bindparam("b_gtrids", expanding=True)), _neglected)


def take_over(connection: Connection, lease: Lease, grace: float, limit: int) -> list[str]:
    """See `Journal.take_over`."""
    connection.execute(_lapsed, {"b_owner": lease.owner, "b_epoch": lease.epoch})
    chosen = _orphans.with_for_update(skip_locked=True, of=transactions)
    found = connection.execute(chosen, {"grace": milliseconds(grace), "count": limit}).all()
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
        connection.execute(claim, {"b_gtrids": gtrids, "grace": milliseconds(grace)})
        owned = select(_t.gtrid).where(
            _t.gtrid.in_(gtrids), _t.owner == lease.owner, _t.epoch == lease.epoch, _t.state.in_(OPEN_STATES)
        )
        taken.extend(connection.scalars(owned))
    return taken


def neglected(connection: Connection, grace: float) -> bool:
    """Return whether `take_over` would find something; a read, so that an idle recoverer writes nothing."""
    if connection.scalar(select(literal(1)).where(_c.lease_until_ms < DatabaseNow()).limit(1)) is not None:
        return True
    return connection.execute(_orphans, {"grace": milliseconds(grace), "count": 1}).first() is not None
