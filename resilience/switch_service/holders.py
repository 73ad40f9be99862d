"""Tokens and sessions in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, insert, select, update

from backstay.errors import Misuse

from .connection import Database
from .documents import bump
from .records import Records
from .schema import sessions, state, tokens
from .scopes import check_pattern
from .tokens import Minted, matches, mint, split
from .values import ROLES, Holder, Role, WallClock, rfc3339

__all__ = ["Holders", "check_role"]

SESSION_MS = 12 * 3600 * 1000


def check_role(text: object) -> Role:
    """Return `text` if it is a role.

    Raises:
        Misuse: it is not.
    """
    if text not in ROLES:
        raise Misuse(f"a role is one of {', '.join(ROLES)}, got {text!r:.80}")
    return cast("Role", text)


class Holders:
    """Who may do what. Secrets are kept as digests only, see `tokens`."""

    def __init__(self, database: Database, records: Records, wall: WallClock) -> None:
        self._database = database
        self._records = records
        self._wall = wall
        self._signing_key = b""

    def first(self) -> Minted | None:
        """Return a token that may do everything, at the first start with a database and never again."""
        with self._database.write() as connection:
            claimed = connection.execute(
                update(state).where(state.c.id == 1, state.c.started == 0).values(started=1)
            ).rowcount
            if not claimed:
                return None
            return self._add(connection, "first start", "admin", ("*/*",), None, by="service", address="")

    def add(
        self,
        name: str,
        role: str,
        scopes: Sequence[str],
        *,
        expires_ms: int | None = None,
        by: str,
        address: str = "",
    ) -> Minted:
        """Make a token; its secret is in the answer and nowhere else.

        Args:
            name: of its holder, 1 to 100 characters.
            role: `reader`, `operator` or `admin`.
            scopes: where it is good; patterns such as `shop/*`.
            expires_ms: when it ends, or None.
            by: who makes it.
            address: of the client.

        Raises:
            Misuse: any of these is wrong.
        """
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise Misuse(f"a token is named by 1 to 100 printable characters, got {name!r:.120}")
        if not scopes or len(scopes) > 100:
            raise Misuse("a token is good in 1 to 100 scopes, such as shop/production or shop/*")
        patterns = tuple(check_pattern(each) for each in scopes)
        if expires_ms is not None and expires_ms <= self._wall():
            raise Misuse(f"a token must end in the future, got {rfc3339(expires_ms)}")
        with self._database.write() as connection:
            return self._add(connection, name, check_role(role), patterns, expires_ms, by=by, address=address)

    def revoke(self, token_id: str, *, by: str, address: str = "") -> bool:
        """End a token and its sessions; return whether it was good until now."""
        with self._database.write() as connection:
            now = self._wall()
            done = connection.execute(
                update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_ms.is_(None)).values(revoked_ms=now)
            ).rowcount
            if not done:
                return False
            connection.execute(delete(sessions).where(sessions.c.token_id == token_id))
            self._note(connection, now, by, address, "token revoked", {"id": token_id})
            bump(connection)
            return True

    def find(self, token_id: str) -> tuple[Holder, str] | None:
        """Return the holder of a token that is good now, and the digest of its secret."""
        with self._database.read() as connection:
            row = connection.execute(
                select(tokens).where(tokens.c.id == token_id, tokens.c.revoked_ms.is_(None))
            ).first()
        if row is None or (row.expires_ms is not None and row.expires_ms <= self._wall()):
            return None
        return _holder(row), row.digest

    def all(self) -> list[dict[str, Any]]:
        """Return what is known of all tokens, without anything secret."""
        with self._database.read() as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.created_ms, tokens.c.id)).all()
        return [
            {
                "id": row.id,
                "name": row.name,
                "role": row.role,
                "scopes": json.loads(row.scopes),
                "created_at": rfc3339(row.created_ms),
                "created_by": row.created_by,
                "expires_at": None if row.expires_ms is None else rfc3339(row.expires_ms),
                "revoked_at": None if row.revoked_ms is None else rfc3339(row.revoked_ms),
            }
            for row in rows
        ]

    def log_in(self, holder: Holder, *, address: str) -> tuple[Minted, int]:
        """Begin a session of a page; return its secret and when it ends."""
        now = self._wall()
        ends = min(now + SESSION_MS, holder.expires_ms or now + SESSION_MS)
        made = mint("bss")
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_ms <= now))
            connection.execute(
                insert(sessions).values(id=made.id, digest=made.digest, token_id=holder.token_id, expires_ms=ends)
            )
            self._note(connection, now, holder.name, address, "login", {"token": holder.token_id})
        return made, ends

    def session(self, text: str) -> tuple[Holder, int] | None:
        """Return whose session this is and when it ends, or None if it is none."""
        parts = split(text, "bss")
        if parts is None:
            return None
        wanted = select(sessions.c.digest, sessions.c.token_id, sessions.c.expires_ms).where(sessions.c.id == parts[0])
        with self._database.read() as connection:
            row = connection.execute(wanted).first()
        if row is None or not matches(parts[1], row.digest) or row.expires_ms <= self._wall():
            return None
        found = self.find(row.token_id)
        return None if found is None else (found[0], row.expires_ms)

    def log_out(self, text: str) -> None:
        """End a session."""
        parts = split(text, "bss")
        if parts is not None:
            with self._database.write() as connection:
                connection.execute(delete(sessions).where(sessions.c.id == parts[0]))

    def signing_key(self) -> bytes:
        """Return what all replicas of this database sign with."""
        if not self._signing_key:
            with self._database.read() as connection:
                self._signing_key = bytes.fromhex(connection.scalar(select(state.c.signing_key)) or "")
        return self._signing_key

    def _add(
        self,
        connection: Connection,
        name: str,
        role: Role,
        patterns: Sequence[str],
        expires_ms: int | None,
        *,
        by: str,
        address: str,
    ) -> Minted:
        now, made = self._wall(), mint()
        connection.execute(
            insert(tokens).values(
                id=made.id,
                digest=made.digest,
                name=name,
                role=role,
                scopes=json.dumps(patterns),
                created_ms=now,
                created_by=by,
                expires_ms=expires_ms,
                revoked_ms=None,
            )
        )
        detail = {"id": made.id, "name": name, "role": role, "scopes": list(patterns)}
        self._note(connection, now, by, address, "token made", detail)
        bump(connection)
        return made

    def _note(
        self, connection: Connection, now: int, who: str, address: str, action: str, detail: dict[str, Any]
    ) -> None:
        self._records.note(
            connection,
            at_ms=now,
            who=who,
            address=address,
            action=action,
            scope="",
            outcome="done",
            why="",
            detail=detail,
        )


def _holder(row: Row[Any]) -> Holder:
    return Holder(
        token_id=row.id,
        name=row.name,
        role=check_role(row.role),
        scopes=tuple(json.loads(row.scopes)),
        expires_ms=row.expires_ms,
    )
