"""Clean-up of barrier tables: only what its coordinator has ended, and only when no try can still be on its way."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from backstay.errors import Misuse

from .schema import barrier
from .steps import OLDEST_TRY

__all__ = ["CLEAN_AFTER", "allowed", "candidates", "remove"]

CLEAN_AFTER = 2 * OLDEST_TRY
"""Seconds that rows are kept after the end of their transaction: by default two days.

A try is refused one day after its transaction began, by the participant's own clock; the second day is for
the difference between that clock and the journal's.
"""


def allowed(safety: float) -> None:
    """Refuse a safety time in which a late try could meet a barrier that has forgotten it."""
    if not safety > OLDEST_TRY:
        raise Misuse(
            f"safety must be more than {OLDEST_TRY} s, the age up to which a try is taken, got {safety}; "
            "a late try would find the barrier empty and run"
        )


def candidates(connection: Connection, after: str, limit: int) -> list[str]:
    """Return gtrids that have rows here, in order, from behind `after`."""
    found = select(barrier.c.gtrid).where(barrier.c.gtrid > after).distinct().order_by(barrier.c.gtrid).limit(limit)
    return list(connection.scalars(found))


def remove(connection: Connection, gtrids: Sequence[str]) -> int:
    """Remove all rows of these transactions, those of suspended branches too; return how many rows."""
    if not gtrids:
        return 0
    return connection.execute(delete(barrier).where(barrier.c.gtrid.in_(list(gtrids)))).rowcount
