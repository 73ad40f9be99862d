"""One task a replica: notices what other replicas wrote, and ends what was to last until a moment.

It reads one number of one row five times a second. That costs the database nothing, needs no connection that may die
unnoticed, and is the same on SQLite and PostgreSQL. A change is pushed by the other replicas 0.2 s later at most.
"""

from __future__ import annotations

import asyncio
import logging

from backstay.errors import BackstayError, Misuse
from backstay.telemetry import counter

from .board import Board
from .errors import Conflict
from .expiry import expired, next_end
from .store import Store
from .validation import Validation

__all__ = ["Watch"]

logger = logging.getLogger("backstay.resilience")

RETRY_EXPIRY_MS = 60_000


class Watch:
    """Keeps a board as the database is.

    Args:
        store: the database.
        board: what to keep.
        validation: checks what an expiry leaves.
        interval: seconds between two looks.
    """

    def __init__(self, store: Store, board: Board, validation: Validation, *, interval: float = 0.2) -> None:
        if not 0.01 <= interval <= 60:
            raise Misuse(f"interval must be from 0.01 to 60 s, got {interval!r}")
        self._store = store
        self._board = board
        self._validation = validation
        self._interval = interval
        self._seen: int | None = None
        self._problem = ""
        self._ends: dict[str, tuple[tuple[int, int], int | None]] = {}
        self._waiting: dict[str, tuple[tuple[int, int], int]] = {}
        self.generation = 0
        self._looks = {
            result: counter("switch_service.looks", "{look}", result=result) for result in ("news", "none", "error")
        }

    @property
    def problem(self) -> str:
        """What was wrong at the last look, or an empty text."""
        return self._problem

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                news = await self.look()
                await self.end_what_is_over()
                self._looks["news" if news else "none"].n += 1
                if self._problem:
                    logger.warning("the database of the switch service answers again")
                    self._problem = ""
            except BackstayError as error:
                self._looks["error"].n += 1
                if not self._problem:
                    logger.warning("looking for changes failed; it goes on: %s", error)
                self._problem = str(error) or error.title
            except Exception as error:  # the task is the only one of its kind
                self._looks["error"].n += 1
                logger.exception("looking for changes failed; it goes on")
                self._problem = type(error).__name__
            await asyncio.sleep(self._interval)

    async def look(self) -> bool:
        """Read what changed since the last look; return whether anything did."""
        changes = await asyncio.to_thread(self._store.documents.changes)
        if changes == self._seen:
            return False
        known = self._board.cursors()  # before the database is read: what is written meanwhile is in both
        there = await asyncio.to_thread(self._store.documents.cursors)
        for scope, cursor in known.items():
            if scope not in there:
                self._board.drop(scope)
            elif cursor > there[scope]:
                await asyncio.to_thread(self._store.documents.overtaken, scope, *cursor, by="this service")
        for scope, cursor in there.items():
            if cursor != known.get(scope):
                await self.fetch(scope)
        self._seen = changes
        self.generation += 1  # tokens are looked up anew
        return True

    async def fetch(self, scope: str) -> None:
        """Put up what the database has of one scope."""
        envelope = await asyncio.to_thread(self._store.documents.current, scope)
        if envelope is not None:
            self._board.post(envelope)

    async def end_what_is_over(self) -> None:
        """Write a version without what was to last until a moment that has passed (SW-8)."""
        now = self._store.wall()
        for posted in self._board.posted():
            envelope = posted.envelope
            scope, cursor = envelope.scope, posted.cursor
            known = self._ends.get(scope)
            if known is None or known[0] != cursor:
                known = self._ends[scope] = (cursor, next_end(envelope))
            if known[1] is None or known[1] > now:
                continue
            waiting = self._waiting.get(scope)
            if waiting is not None and waiting[0] == cursor and waiting[1] > now:
                continue
            items, over = expired(envelope, now)
            try:
                self._validation.check(items)
                published = await asyncio.to_thread(
                    self._store.documents.publish,
                    scope,
                    envelope.version,
                    items,
                    who="service",
                    why=f"ran out: {', '.join(over)}"[:500],
                    action="expiry",
                )
                self._board.post(published.envelope)
            except Conflict:
                continue  # another replica was faster, or somebody changed it: the next look shows
            except Misuse as error:
                self._waiting[scope] = (cursor, now + RETRY_EXPIRY_MS)
                logger.warning("%s: what ran out stays in the document: %s", scope, error)
                await asyncio.to_thread(
                    self._store.records.refused, who="service", address="", action="expiry", scope=scope,
                    why=f"{', '.join(over)} ran out, and the rest is no valid document: {error}",
                )  # fmt: skip
