"""Leases of coordinators: joining, renewing, leaving, and taking every other's away."""

from __future__ import annotations

from functools import cache

from sqlalchemy import BigInteger, Connection, Insert, and_, bindparam, delete, literal, select, update

from ..journal import Lease
from ..once import insert_once
from .clock import DatabaseNow, milliseconds
from .schema import coordinators, transactions

__all__ = ["fence", "join", "lease_holds", "leave", "renew"]

_t, _c = transactions.c, coordinators.c
lease_holds = select(literal(1)).where(_c.owner == _t.owner, _c.epoch == _t.epoch).correlate(transactions).exists()
"""Whether a transaction's coordinator still has the lease under which it was opened or taken over."""


@cache
def _join(dialect: str) -> Insert:
    return insert_once(coordinators, dialect).values(lease_until_ms=DatabaseNow() + bindparam("ttl", type_=BigInteger))


def join(connection: Connection, owner: str, epoch: int, ttl: float) -> Lease:
    """See `Journal.join`."""
    statement = _join(connection.dialect.name)
    if connection.execute(statement, {"owner": owner, "epoch": epoch, "ttl": milliseconds(ttl)}).rowcount == 1:
        return Lease(owner=owner, epoch=epoch)
    found = connection.scalar(select(_c.epoch).where(_c.owner == owner)) or 0
    connection.execute(
        update(coordinators)
        .where(_c.owner == owner)
        .values(epoch=max(epoch, found + 1), lease_until_ms=DatabaseNow() + milliseconds(ttl))
    )
    return Lease(owner=owner, epoch=max(epoch, found + 1))


_renew = (
    update(coordinators)
    .where(_c.owner == bindparam("b_owner"), _c.epoch == bindparam("b_epoch"))
    .values(lease_until_ms=DatabaseNow() + bindparam("ttl", type_=BigInteger))
)


def renew(connection: Connection, lease: Lease, ttl: float) -> bool:
    """See `Journal.renew`."""
    values = {"b_owner": lease.owner, "b_epoch": lease.epoch, "ttl": milliseconds(ttl)}
    return connection.execute(_renew, values).rowcount == 1


def leave(connection: Connection, lease: Lease) -> None:
    """See `Journal.leave`."""
    connection.execute(delete(coordinators).where(_c.owner == lease.owner, _c.epoch == lease.epoch))


def fence(connection: Connection, lease: Lease) -> int:
    """See `Journal.fence`."""
    others = delete(coordinators).where(~and_(_c.owner == lease.owner, _c.epoch == lease.epoch))
    return connection.execute(others).rowcount
