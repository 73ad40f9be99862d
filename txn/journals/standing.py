"""Where a transaction stands: what a write answers that neither decided nor ended it."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from ..tcc.states import OPEN, State
from .schema import transactions

__all__ = ["OPEN_STATES", "standing"]

OPEN_STATES = sorted(state.value for state in OPEN)
_t = transactions.c

_state = select(_t.state).where(_t.gtrid == bindparam("b_gtrid"))


def standing(connection: Connection, gtrid: str) -> State | None:
    """Return the state of a transaction, None where the journal has none of that name."""
    found = connection.scalar(_state, {"b_gtrid": gtrid})
    return None if found is None else State(found)
