"""The golden signals exist for every shard by construction."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from backstay.sharding import ShardedSession, ShardMap
from unit.sharding.market import Order


def test_statements_errors_and_connections_are_counted_by_shard(layout: ShardMap) -> None:
    meters = layout.meters
    before = {name: (one.done.n, one.failed.n) for name, one in meters.items()}
    with ShardedSession(layout) as session:
        session.scalar(select(func.count()).select_from(Order))
        session.scalars(select(Order).where(Order.household_id == 7)).all()
        home = session.shard_of(Order, 7)
        assert all(one.connections() == 1 for one in meters.values())
        with pytest.raises(OperationalError):
            session.execute(select(func.no_such_function()).where(Order.household_id == 7))
    assert all(one.connections() == 0 for one in meters.values())
    grown = {name: (one.done.n - before[name][0], one.failed.n - before[name][1]) for name, one in meters.items()}
    assert grown == {name: (2, 1) if name == home else (1, 0) for name in layout.shards}
