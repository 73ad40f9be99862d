"""The barrier's steps over one connection that is inside the business transaction.

Theory of operation. The row (branch, "try") belongs to whoever inserts it first. A try that inserts it may run.
A cancel that inserts it has come first: the try, should it still come, finds the row taken and is refused. A
cancel that finds a try's row waits, inside its own INSERT, until the transaction of that try has ended, so
it never judges a try that is still running. The row (branch, "end") belongs in the same way to confirm or to
cancel, so of two that run side by side one waits and then sees that the other was there.

Everything is written in the caller's transaction: if that is rolled back, so is the barrier, and the next
copy of the request runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Insert, String, bindparam, func, literal, select, update

from backstay.errors import OutcomeUnknown

from ..errors import BarrierAlarm, PayloadMismatch, TryRefused
from ..identity import begun
from ..journals.clock import DatabaseNow
from ..once import insert_once
from ..values import Branch, Phase, digest, dump, load
from .schema import barrier
from .truth import Standing, Verdict, verdict

__all__ = ["OLDEST_TRY", "Entry", "enter", "store"]

OLDEST_TRY = 24 * 3600
"""Seconds after the beginning of its transaction in which a try is taken. Rows are kept for longer than that
(`CLEAN_AFTER`), so a copy of a try that was on its way for days never finds an empty barrier."""

_c = barrier.c
_TRY, _END = "try", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the barrier says: run the function or not.

    `result` is what try stored, if the function is to run, and else what the earlier copy of the request stored.
    """

    run: bool
    result: Any = None


_YOUNG = DatabaseNow() <= bindparam("not_after", type_=BigInteger)
_TRIED = (
    select(_c.gtrid)
    .where(
        _c.gtrid == bindparam("gtrid"),
        _c.branch == bindparam("branch"),
        _c.phase == _TRY,
        _c.entered_by == Phase.TRY.value,
    )
    .exists()
)


@cache
def _claim(dialect: str, phase: Phase, bounded: bool) -> Insert:
    """Return the INSERT by which a phase claims a row, with its condition inside: nothing is read before a write.

    A try's transaction must be younger than any whose rows may have been cleaned up; a confirm's try must have
    run. Where waits are `bounded`, the same statement sets PostgreSQL's lock_timeout for the transaction,
    which takes effect before the INSERT waits for another one's.
    """
    source = select(
        bindparam("gtrid", type_=_c.gtrid.type),
        bindparam("branch", type_=_c.branch.type),
        bindparam("row", type_=_c.phase.type),
        literal(phase.value),
        bindparam("digest", type_=_c.digest.type),
        DatabaseNow(),
    )
    if phase is Phase.TRY:
        source = source.where(_YOUNG)
    elif phase is Phase.CONFIRM:
        source = source.where(_TRIED)
    if bounded:
        source = source.where(
            func.set_config("lock_timeout", bindparam("lock_timeout", type_=String), True).is_not(None)
        )
    return insert_once(barrier, dialect, (["gtrid", "branch", "phase", "entered_by", "digest", "created_ms"], source))


_rows = select(_c.phase, _c.entered_by, _c.digest, _c.result).where(
    _c.gtrid == bindparam("b_gtrid"), _c.branch == bindparam("b_branch")
)
# A plain read would see an old snapshot under REPEATABLE READ, InnoDB's default.
_rows_latest = _rows.with_for_update(read=True)
_store = (
    update(barrier)
    .where(_c.gtrid == bindparam("b_gtrid"), _c.branch == bindparam("b_branch"), _c.phase == bindparam("b_phase"))
    .values(result=bindparam("b_result"))
)


def enter(connection: Connection, branch: Branch, lock_timeout: float | None = None) -> Entry:
    """Write the barrier's rows for a request and say whether its function must run.

    Args:
        connection: inside the business transaction, best as the first thing in it.
        branch: the request.
        lock_timeout: seconds that this transaction waits for a lock, on PostgreSQL; by default as configured.

    Raises:
        TryRefused: a try that came after its cancel.
        BarrierAlarm: an order that no correct coordinator produces; `PayloadMismatch` for another payload.
        OutcomeUnknown: the database hides a row that it says is there; roll back and repeat.
    """
    fingerprint = digest(branch.payload)
    standing, found = _standing(connection, branch, fingerprint, lock_timeout)
    told = verdict(branch.phase, standing)
    if told is not Verdict.ALARM and any(row.digest != fingerprint for row in found.values()):
        raise PayloadMismatch(
            f"{branch.phase.value} of branch {branch.id} of {branch.gtrid} came with another payload than before"
        )
    if told is Verdict.REFUSE:
        raise TryRefused(f"late try: branch {branch.id} of {branch.gtrid} is {standing.value}")
    if told is Verdict.ALARM:
        raise BarrierAlarm(f"{branch.phase.value} of branch {branch.id} of {branch.gtrid}, which is {standing.value}")
    run = told is Verdict.RUN
    row = found.get(_TRY if run else _own(branch.phase))
    return Entry(run=run, result=None if row is None else load(row.result))


def _own(phase: Phase) -> str:
    return _TRY if phase is Phase.TRY else _END


def _standing(
    connection: Connection, branch: Branch, fingerprint: str, lock_timeout: float | None
) -> tuple[Standing, dict[str, Any]]:
    """Insert what the phase may insert; return how the branch stood before, and the rows that were there."""
    dialect = connection.dialect.name
    bounded = lock_timeout is not None and dialect == "postgresql"
    statement = _claim(dialect, branch.phase, bounded)
    values: dict[str, Any] = {"gtrid": branch.gtrid, "branch": branch.id, "digest": fingerprint}
    if bounded:
        values["lock_timeout"] = f"{round((lock_timeout or 0) * 1000)}ms"

    def claim(row: str) -> bool:
        return connection.execute(statement, {**values, "row": row}).rowcount == 1

    if branch.phase is Phase.TRY:
        born = begun(branch.gtrid)
        values["not_after"] = 2**53 if born is None else (born + OLDEST_TRY) * 1000
        if claim(_TRY):
            return Standing.NOTHING, {}
    elif branch.phase is Phase.CONFIRM:
        if claim(_END):
            return Standing.TRIED, _read(connection, branch)
    else:
        first = claim(_TRY)  # the late-try row: keeps out a try that is still on its way
        ended = claim(_END)
        if first:
            return Standing.NOTHING, {}
        if ended:
            return Standing.TRIED, _read(connection, branch)
    found = _read(connection, branch)
    return _stood(branch, found), found


def _read(connection: Connection, branch: Branch) -> dict[str, Any]:
    statement = _rows_latest if connection.dialect.name in ("mysql", "mariadb") else _rows
    rows = connection.execute(statement, {"b_gtrid": branch.gtrid, "b_branch": branch.id})
    return {row.phase: row for row in rows}


def _stood(branch: Branch, found: dict[str, Any]) -> Standing:
    """Return the standing that rows mean; for a request whose own insert found its place taken."""
    if _TRY not in found:
        if branch.phase is Phase.CONFIRM and not found:
            return Standing.NOTHING
        if branch.phase is Phase.TRY and not found and begun(branch.gtrid) is not None:
            raise TryRefused(f"late try: transaction {branch.gtrid} began more than {OLDEST_TRY // 3600} hours ago")
        raise OutcomeUnknown(
            f"the barrier of {branch.gtrid} is hidden from this transaction's snapshot; roll back and repeat",
            ask={"gtrid": branch.gtrid},
        )
    if found[_TRY].entered_by == Phase.CANCEL.value:
        return Standing.SUSPENDED
    if _END not in found:
        return Standing.TRIED
    return Standing.CONFIRMED if found[_END].entered_by == Phase.CONFIRM.value else Standing.CANCELLED


def store(connection: Connection, branch: Branch, result: Any) -> None:
    """Keep what the function returned; fails when the barrier's row is gone, because somebody rolled back.

    Raises:
        OutcomeUnknown: the function rolled back the transaction that it was given.
    """
    text = None if result is None else dump(result, what=f"the result of {branch.phase.value}")
    row = _own(branch.phase)
    values = {"b_gtrid": branch.gtrid, "b_branch": branch.id, "b_phase": row, "b_result": text}
    if connection.execute(_store, values).rowcount != 1:
        raise OutcomeUnknown(
            f"{branch.phase.value} of branch {branch.id} of {branch.gtrid} rolled back the transaction it was given, "
            "and the barrier's rows with it; to refuse, raise TryRefused, and leave rollback to the barrier's caller",
            ask={"gtrid": branch.gtrid},
        )
