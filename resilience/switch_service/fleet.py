"""Which instances run which version, and the levels they went through: what heartbeats leave behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from backstay.errors import Misuse

from .connection import Database
from .heartbeats import Heartbeat
from .schema import instances, level_changes
from .values import WallClock, rfc3339

__all__ = ["Fleet"]

FORGOTTEN_AFTER_MS = 3600 * 1000
MOST_INSTANCES = 10_000
LEVELS_KEPT = 10_000


class Fleet:
    """The instances of all scopes.

    Guarantees: one row an instance, forgotten an hour after its last heartbeat; a change of a level is written once,
    when a heartbeat first says it; the latest 10,000 changes of a scope are kept.
    """

    def __init__(self, database: Database, wall: WallClock) -> None:
        self._database = database
        self._wall = wall

    def hear(self, beat: Heartbeat) -> None:
        """Keep what an instance says of itself.

        Raises:
            Misuse: the scope has 10,000 instances already.
        """
        now = self._wall()
        row: dict[str, Any] = {
            "epoch": beat.epoch,
            "version": beat.version,
            "applied_at": beat.applied_at,
            "state": beat.state,
            "levels": json.dumps(beat.levels),
            "signals": json.dumps(beat.signals),
            "delay_s": beat.delay_s,
            "seen_ms": now,
        }
        try:
            self._hear(beat, row, now)
        except IntegrityError:  # another replica heard the first one of this instance at the same moment
            self._hear(beat, row, now)

    def _hear(self, beat: Heartbeat, row: dict[str, Any], now: int) -> None:
        here = (instances.c.scope == beat.scope) & (instances.c.instance == beat.instance)
        with self._database.write() as connection:
            known = connection.scalar(select(instances.c.levels).where(here))
            if known is None:
                self._make_room(connection, beat.scope, now)
                connection.execute(insert(instances).values(scope=beat.scope, instance=beat.instance, **row))
            else:
                connection.execute(update(instances).where(here).values(**row))
            before: Mapping[str, str] = {} if known is None else json.loads(known)
            moved = [
                {
                    "scope": beat.scope,
                    "at_ms": now,
                    "instance": beat.instance,
                    "resource": resource,
                    "level": level,
                    "cause": beat.cause(resource),
                    "sample": json.dumps(beat.signals.get(resource)),
                }
                for resource, level in sorted(beat.levels.items())
                if before.get(resource, "normal") != level
            ]
            if moved:
                connection.execute(insert(level_changes), moved)
                self._prune(connection, beat.scope)

    def instances(self, scope: str) -> list[dict[str, Any]]:
        """Return the instances heard of in the last hour, with the seconds since."""
        now = self._wall()
        wanted = (
            select(instances)
            .where(instances.c.scope == scope, instances.c.seen_ms > now - FORGOTTEN_AFTER_MS)
            .order_by(instances.c.instance)
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [
            {
                "instance": row.instance,
                "epoch": row.epoch,
                "version": row.version,
                "applied_at": row.applied_at,
                "state": row.state,
                "levels": json.loads(row.levels),
                "signals": json.loads(row.signals),
                "delay_s": row.delay_s,
                "seen_at": rfc3339(row.seen_ms),
                "seen_s": max(0.0, (now - row.seen_ms) / 1000),
            }
            for row in rows
        ]

    def levels(self, scope: str, *, since_ms: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Return changes of levels, the earliest first, at most the latest `limit` of them."""
        wanted = (
            select(level_changes)
            .where(level_changes.c.scope == scope, level_changes.c.at_ms >= since_ms)
            .order_by(level_changes.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [
            {
                "at": rfc3339(row.at_ms),
                "instance": row.instance,
                "resource": row.resource,
                "level": row.level,
                "cause": row.cause,
                "sample": json.loads(row.sample),
            }
            for row in reversed(rows)
        ]

    def _make_room(self, connection: Connection, scope: str, now: int) -> None:
        connection.execute(delete(instances).where(instances.c.seen_ms <= now - FORGOTTEN_AFTER_MS))
        there = connection.scalar(select(func.count()).select_from(instances).where(instances.c.scope == scope))
        if (there or 0) >= MOST_INSTANCES:
            raise Misuse(f"{scope} has {MOST_INSTANCES:,} instances already; one is forgotten an hour after it went")

    def _prune(self, connection: Connection, scope: str) -> None:
        oldest = connection.scalar(
            select(level_changes.c.id)
            .where(level_changes.c.scope == scope)
            .order_by(level_changes.c.id.desc())
            .offset(LEVELS_KEPT)
            .limit(1)
        )
        if oldest is not None:
            connection.execute(
                delete(level_changes).where(level_changes.c.scope == scope, level_changes.c.id <= oldest)
            )
