"""What the journal holds of branches: each logged before its try, then what requests to it came to."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, update

from ..journal import BranchRecord, BranchUpdate
from ..tcc.states import BRANCH, BranchEvent, sources
from .schema import branches

__all__ = ["log", "record"]

_b = branches.c

_insert_branches = branches.insert()


def log(connection: Connection, gtrid: str, logged: Sequence[BranchRecord]) -> None:
    """Write branches down before they are tried."""
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


def _short(text: str | None) -> str | None:
    return text if text is None else text[:1000]


def record(connection: Connection, gtrid: str, updates: Sequence[BranchUpdate]) -> None:
    """Write down what requests to branches came to (T4, T7)."""
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
