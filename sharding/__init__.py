"""The right row on the right database: routing, scatter and merge on SQLAlchemy.

    layout = ShardMap.slots({"s0": url0, "s1": url1}, rules=[Rule(Order, key="household_id")])
    with ShardedSession(layout) as session:
        session.scalars(select(Order).where(Order.household_id == 7).order_by(Order.placed_at.desc()).limit(5))

A statement with its sharding key runs on one shard as it is. On several shards it gives what one database with all
the rows
would give, or is refused with `NotMergeable`: docs/reference/sharding-statements.md lists both.
"""

from __future__ import annotations

from backstay.url import require

require("sqlalchemy", "sql")

from .asynchronous import AsyncShardedSession  # noqa: E402  # after the check that names the extra
from .errors import (  # noqa: E402  # as above
    BadKey,
    CrossShardWrite,
    MergeOrderError,
    Misplaced,
    NotMergeable,
    PartialCommit,
    UnitPoisoned,
    Unkeyed,
    Unroutable,
)
from .layout import ShardMap  # noqa: E402  # as above
from .rules import Broadcast, Rule  # noqa: E402  # as above
from .session import ShardedSession  # noqa: E402  # as above

__all__ = [
    "AsyncShardedSession",
    "BadKey",
    "Broadcast",
    "CrossShardWrite",
    "MergeOrderError",
    "Misplaced",
    "NotMergeable",
    "PartialCommit",
    "Rule",
    "ShardMap",
    "ShardedSession",
    "UnitPoisoned",
    "Unkeyed",
    "Unroutable",
]
