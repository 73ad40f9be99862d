"""Documents in the database: compare-and-set on the version, with history and audit in the same transaction (SW-8)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..delivery.envelope import Envelope
from .connection import Database
from .differences import differences
from .errors import Conflict
from .records import Records
from .schema import scopes, state, versions
from .values import Action, Items, Past, Published, WallClock, rfc3339

__all__ = ["Documents"]

LATEST_EPOCH_AHEAD = 24 * 3600 * 1000
"""How far ahead of the clock an instance's epoch may be, in ms, for a new one to be put above it."""


class Documents:
    """The documents of all scopes.

    Guarantees: of several changes for the same version exactly one is written; a version is written together with
    its history and audit, or not at all; a scope's versions grow, and its epoch is above that of every scope of
    this name that an older database had, as far as the clock did not go back.
    """

    def __init__(self, database: Database, records: Records, wall: WallClock) -> None:
        self._database = database
        self._records = records
        self._wall = wall

    def changes(self) -> int:
        """Return a number that grows with each change of any document or token."""
        with self._database.read() as connection:
            return int(connection.scalar(select(state.c.changes)) or 0)

    def cursors(self) -> dict[str, tuple[int, int]]:
        """Return epoch and version of each scope."""
        with self._database.read() as connection:
            rows = connection.execute(select(scopes.c.scope, scopes.c.epoch, scopes.c.version)).all()
        return {scope: (epoch, version) for scope, epoch, version in rows}

    def current(self, scope: str) -> Envelope | None:
        """Return the present document, or None if the scope was never written."""
        with self._database.read() as connection:
            return _current(connection, scope)

    def version(self, scope: str, number: int) -> Envelope | None:
        """Return a document of the past, or None if there is no such version."""
        with self._database.read() as connection:
            found = connection.scalar(
                select(versions.c.document).where(versions.c.scope == scope, versions.c.version == number)
            )
        return None if found is None else Envelope.parse(found.encode())

    def history(self, scope: str, *, before: int | None = None, limit: int = 50) -> list[Past]:
        """Return versions, the latest first."""
        wanted = select(versions).where(versions.c.scope == scope).order_by(versions.c.version.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(versions.c.version < before)
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [
            Past(
                version=row.version,
                epoch=row.epoch,
                at=rfc3339(row.at_ms),
                who=row.who,
                why=row.why,
                action=row.action,
                changes=tuple(json.loads(row.changes)),
            )
            for row in rows
        ]

    def publish(
        self,
        scope: str,
        base: int,
        items: Items,
        *,
        who: str,
        why: str,
        action: Action,
        address: str = "",
        dry_run: bool = False,
    ) -> Published:
        """Write the next version of a scope, if `base` is the present one.

        Args:
            scope: application/environment.
            base: the version that the change was made for; 0 for a scope that was never written.
            items: all of the next document, which has been checked.
            who: by whom.
            why: the reason.
            action: what was done.
            address: of the client.
            dry_run: only say what would change.

        Returns:
            What was written. Without a difference nothing is, and the present version stays.

        Raises:
            Conflict: another version is the present one; nothing was written.
            Misuse: the document is too large.
            Unavailable: nothing was written.
            OutcomeUnknown: the database did not answer the commit.
        """
        try:
            with self._database.write() as connection:
                present = _current(connection, scope)
                there = 0 if present is None else present.version
                if there != base:
                    raise _conflict(scope, base, there)
                found = differences({} if present is None else present.items, items)
                if present is not None and not found:
                    return Published(envelope=present, changes=(), dry_run=dry_run)
                now = self._wall()
                made = Envelope.seal(
                    scope=scope,
                    epoch=now if present is None else present.epoch,
                    version=base + 1,
                    issued_at=rfc3339(now),
                    items=items,
                )
                published = Published(envelope=made, changes=found, dry_run=dry_run)
                if not dry_run:
                    self._write(connection, base, published, now=now, who=who, why=why, action=action, address=address)
                return published
        except IntegrityError:
            present = self.current(scope)
            raise _conflict(scope, base, 0 if present is None else present.version) from None

    def overtaken(self, scope: str, epoch: int, version: int, *, by: str) -> Envelope | None:
        """Begin a new epoch if somebody has seen a later document than this database holds.

        A database that was put back from a copy hands out version numbers a second time. Whoever has seen the first
        ones would take the second for old, and keep what nobody wants any more.

        Args:
            scope: application/environment.
            epoch: that was seen.
            version: that was seen.
            by: who saw it, for the audit.

        Returns:
            The document under its new epoch, or None if nothing had to change.
        """
        with self._database.write() as connection:
            present = _current(connection, scope)
            now = self._wall()
            if present is None or (epoch, version) <= (present.epoch, present.version):
                return None
            if epoch > now + LATEST_EPOCH_AHEAD:
                return None  # no service of ours wrote that
            made = Envelope.seal(
                scope=scope,
                epoch=max(now, epoch + 1, present.epoch + 1),
                version=max(version, present.version) + 1 if epoch == present.epoch else present.version + 1,
                issued_at=rfc3339(now),
                items=present.items,
            )
            self._write(
                connection,
                present.version,
                Published(envelope=made, changes=()),
                now=now,
                who="service",
                why=f"{by} has version {version} of epoch {epoch}: this database is older than what was published",
                action="epoch",
                address="",
            )
            return made

    def _write(
        self,
        connection: Connection,
        base: int,
        published: Published,
        *,
        now: int,
        who: str,
        why: str,
        action: Action,
        address: str,
    ) -> None:
        envelope = published.envelope
        document = envelope.to_bytes().decode()
        row: Mapping[str, Any] = {"epoch": envelope.epoch, "version": envelope.version, "document": document}
        if base == 0:
            connection.execute(insert(scopes).values(scope=envelope.scope, **row))
        else:
            done = connection.execute(
                update(scopes).where(scopes.c.scope == envelope.scope, scopes.c.version == base).values(**row)
            )
            if done.rowcount != 1:  # another replica was faster
                there = connection.scalar(select(scopes.c.version).where(scopes.c.scope == envelope.scope))
                raise _conflict(envelope.scope, base, there or 0)
        changes = [change.document() for change in published.changes]
        connection.execute(
            insert(versions).values(
                scope=envelope.scope,
                at_ms=now,
                who=who,
                why=why,
                action=action,
                changes=json.dumps(changes),
                **row,
            )
        )
        self._records.note(
            connection,
            at_ms=now,
            who=who,
            address=address,
            action=action,
            scope=envelope.scope,
            outcome="done",
            why=why,
            detail={"version": envelope.version, "changes": changes},
        )
        bump(connection)


def bump(connection: Connection) -> None:
    """Tell all replicas that something changed; this orders all changes of a database."""
    connection.execute(update(state).where(state.c.id == 1).values(changes=state.c.changes + 1))


def _current(connection: Connection, scope: str) -> Envelope | None:
    found = connection.scalar(select(scopes.c.document).where(scopes.c.scope == scope))
    return None if found is None else Envelope.parse(found.encode())


def _conflict(scope: str, base: int, there: int) -> Conflict:
    return Conflict(
        f"{scope} has version {there}, the change was made for version {base}; look at it again, and send it again",
        version=there,
    )
