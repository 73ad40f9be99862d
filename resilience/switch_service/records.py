"""The audit: who did or tried what, when and why. Refused attempts as well, of which only the latest are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from .connection import Database
from .schema import audit
from .scopes import covers
from .values import Outcome, WallClock, rfc3339

__all__ = ["Records"]

_PRUNE_EVERY = 100


class Records:
    """The audit's rows.

    Guarantees: what was done stays for ever. Of what was refused the latest `refused_kept` stay, or an attacker
    could fill the disk.
    """

    def __init__(self, database: Database, wall: WallClock, *, refused_kept: int = 10_000) -> None:
        self._database = database
        self._wall = wall
        self._refused_kept = refused_kept

    def note(
        self,
        connection: Connection,
        *,
        at_ms: int,
        who: str,
        address: str,
        action: str,
        scope: str,
        outcome: Outcome,
        why: str,
        detail: Mapping[str, Any],
    ) -> None:
        """Add a row in the transaction of what it is about."""
        connection.execute(
            insert(audit).values(
                at_ms=at_ms,
                who=_fit(who, 200),
                address=_fit(address, 100),
                action=_fit(action, 40),
                scope=_fit(scope, 130),
                outcome=outcome,
                why=_fit(why, 500),
                detail=json.dumps(detail),
            )
        )

    def refused(
        self, *, who: str, address: str, action: str, scope: str, why: str, outcome: Outcome = "refused"
    ) -> None:
        """Add a row about an attempt that changed nothing, or of which that is not known."""
        with self._database.write() as connection:
            self.note(
                connection,
                at_ms=self._wall(),
                who=who,
                address=address,
                action=action,
                scope=scope,
                outcome=outcome,
                why=why,
                detail={},
            )
            last = connection.scalar(
                select(audit.c.id).where(audit.c.outcome == "refused").order_by(audit.c.id.desc()).limit(1)
            )
            if last is not None and last % _PRUNE_EVERY == 0:
                self._prune(connection)

    def _prune(self, connection: Connection) -> None:
        oldest = connection.scalar(
            select(audit.c.id)
            .where(audit.c.outcome == "refused")
            .order_by(audit.c.id.desc())
            .offset(self._refused_kept)
            .limit(1)
        )
        if oldest is not None:
            connection.execute(delete(audit).where(audit.c.outcome == "refused", audit.c.id <= oldest))

    def page(
        self, patterns: Iterable[str], *, before: int | None = None, limit: int = 100
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return rows of the scopes that `patterns` take in, the latest first, and where the next page begins.

        Rows without a scope (logins, tokens) are for those whose token takes in all scopes.
        """
        patterns = tuple(patterns)
        wanted = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(audit.c.id < before)
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        entries = [
            {
                "id": row.id,
                "at": rfc3339(row.at_ms),
                "who": row.who,
                "address": row.address,
                "action": row.action,
                "scope": row.scope,
                "outcome": row.outcome,
                "why": row.why,
                "detail": json.loads(row.detail),
            }
            for row in rows
            if covers(patterns, row.scope or "*/*")
        ]
        return entries, rows[-1].id if len(rows) == limit else None


def _fit(text: str, length: int) -> str:
    """Return `text` as a column takes it: PostgreSQL refuses NUL and surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:length]
