"""A lock for the length of the caller's own transaction, on PostgreSQL; needs `backstay[postgresql]`.

from backstay.locks.advisory import advisory_xact_lock

with Session(engine) as session, session.begin():
    advisory_xact_lock(session, "stock:42", wait=2)
    session.execute(...)
"""

from __future__ import annotations

from .backends.advisory import advisory_xact_lock, async_advisory_xact_lock

__all__ = ["advisory_xact_lock", "async_advisory_xact_lock"]
