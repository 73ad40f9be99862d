"""Balances of one host, in SQLite: a file that its processes share, or memory for one process."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, TypeVar

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse, Unavailable

from ...forks import renew_in_child
from ..cache import Step
from ..settings import Settings
from ..values import HIGHEST, Entry, Phase, Reading, Receipt, Reply, Row, Status

__all__ = ["LocalCache"]

T = TypeVar("T")

_PAGE = 500


class LocalCache:
    """One make for both colours: a step takes microseconds, so a loop may wait for it.

    Args:
        name: of the write-behind; several may share one file.
        path: of the file, or None for memory: gone with the process.
        settings: what applies here: `remember`, `most_pending`, `patience`.
        clock: seconds, the same for all processes of the host.

    Raises:
        Misuse: the file cannot be opened, or replicas are asked for.
    """

    def __init__(self, name: str, path: str | None, settings: Settings, clock: Clock = monotonic) -> None:
        if settings.replicas:
            raise Misuse(f"replicas={settings.replicas} needs a Redis with replicas; a file of one host has none")
        self.name, self.path, self.settings = name, path, settings
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        with self._transaction():
            pass
        renew_in_child(self)

    def renew(self) -> None:
        """Open the file anew in a forked child; memory stays a copy of the parent's, which nobody else sees."""
        self._lock = threading.Lock()
        if self.path is not None:
            self._opened = None

    async def change(self, op: str, key: str, delta: int) -> Reply:
        """See `Cache.change`."""
        with self._transaction() as db:
            now = self._clock()
            db.execute("DELETE FROM operation WHERE expires < ?", (now,))
            known = self._one(
                db, "SELECT key, delta, word, left_over, seq FROM operation WHERE name = ? AND op = ?", op
            )
            if known is not None:
                if known[:2] != (key, delta):
                    return Reply(word="other", detail=str(known[1]), seq=known[0], repeated=True)
                return Reply(word=known[2], detail=str(known[3]), seq=str(known[4]), repeated=True)
            phase, fence = self._state(db)
            if phase != "open":
                return Reply(word="closed", detail=phase)
            row = self._one(db, "SELECT balance, seq, frozen FROM balance WHERE name = ? AND key = ?", key)
            if row is None:
                return Reply(word="absent")
            balance, seq, frozen = row
            if frozen:
                return Reply(word="frozen", detail=frozen)
            waiting = self._one(db, "SELECT count(*) FROM entry WHERE name = ? AND parked = ?", 0)
            if waiting is not None and waiting[0] >= self.settings.most_pending:
                return Reply(word="full", detail=str(self.settings.most_pending))
            if balance + delta < 0:
                self._record(db, (op, key, delta, "refused", balance, 0), now + self.settings.remember)
                return Reply(word="refused", detail=str(balance))
            if balance + delta > HIGHEST:
                return Reply(word="beyond", detail=str(balance))
            left, seq = balance + delta, seq + 1
            db.execute(
                "UPDATE balance SET balance = ?, seq = ?, pending = pending + 1 WHERE name = ? AND key = ?",
                (left, seq, self.name, key),
            )
            db.execute(
                "INSERT INTO entry (name, op, key, delta, seq, fence, left_over, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (self.name, op, key, delta, seq, fence, left, now),
            )
            self._record(db, (op, key, delta, "done", left, seq), None)
            return Reply(word="done", detail=str(left), seq=str(seq))

    async def outcome(self, op: str) -> Reply | None:
        """See `Cache.outcome`."""
        with self._transaction() as db:
            found = self._one(db, "SELECT word, left_over, delta, key FROM operation WHERE name = ? AND op = ?", op)
            return None if found is None else Reply(word=found[0], detail=f"{found[1]} {found[2]}", seq=found[3])

    async def look(self, key: str) -> tuple[str, Reading | None]:
        """See `Cache.look`."""
        with self._transaction() as db:
            phase, _ = self._state(db)
            row = self._one(db, "SELECT balance, pending, frozen FROM balance WHERE name = ? AND key = ?", key)
            if row is None:
                return phase, None
            return phase, Reading(balance=row[0], source="cache", pending=row[1], frozen=row[2])

    async def status(self) -> Status:
        """See `Cache.status`."""
        with self._transaction() as db:
            phase, fence = self._state(db)
            waiting = db.execute(
                "SELECT coalesce(sum(parked = 0), 0), coalesce(sum(parked = 1), 0),"
                " min(CASE WHEN parked = 0 THEN at END) FROM entry WHERE name = ?",
                (self.name,),
            ).fetchone()
            frozen = self._one(db, "SELECT count(*) FROM balance WHERE name = ? AND frozen <> ?", "")
            lag = 0.0 if waiting[2] is None else max(0.0, self._clock() - waiting[2])
            return Status(
                phase=Phase(phase), fence=fence, pending=waiting[0], parked=waiting[1],
                frozen=0 if frozen is None else frozen[0], lag=lag,
            )  # fmt: skip

    async def step(self, step: Step, fence: int) -> tuple[str, str]:
        """See `Cache.step`."""
        with self._transaction() as db:
            phase, stored = self._state(db)
            if stored > fence:
                return "stale", str(stored)
            left = self._one(db, "SELECT count(*) FROM entry WHERE name = ? AND id > ?", 0)
            busy = left is not None and left[0] > 0
            if step == "begin":
                if stored == fence and phase != "none":
                    return "ok", phase
                if busy:
                    return "busy", phase
                db.execute("DELETE FROM balance WHERE name = ?", (self.name,))
                phase = "loading"
            elif stored != fence or phase == "none":
                return "lost", phase
            elif step == "open" and phase == "loading":
                phase = "open"
            elif step == "drain" and phase != "closed":
                phase = "draining"
            elif step == "finish":
                if busy:
                    return "busy", phase
                phase = "closed"
            db.execute("REPLACE INTO state (name, phase, fence) VALUES (?, ?, ?)", (self.name, phase, fence))
            return "ok", phase

    async def load(self, fence: int, rows: Sequence[Row]) -> bool:
        """See `Cache.load`."""
        with self._transaction() as db:
            if self._state(db) != ("loading", fence):
                return False
            db.executemany(
                "REPLACE INTO balance (name, key, balance, seq) VALUES (?, ?, ?, ?)",
                [(self.name, *row) for row in rows],
            )
            return True

    async def remember(self, fence: int, receipts: Sequence[Receipt]) -> bool:
        """See `Cache.remember`."""
        with self._transaction() as db:
            if self._state(db) != ("loading", fence):
                return False
            until = self._clock() + self.settings.remember
            for known in receipts:
                self._record(db, (known.op, known.key, known.delta, "done", known.left, 0), until)
            return True

    async def rows(self) -> AsyncIterator[list[Row]]:
        """See `Cache.rows`."""
        after = ""
        while True:
            with self._transaction() as db:
                page: list[Row] = db.execute(
                    "SELECT key, balance, seq FROM balance WHERE name = ? AND key > ? ORDER BY key LIMIT ?",
                    (self.name, after, _PAGE),
                ).fetchall()
            if not page:
                return
            yield page
            after = page[-1][0]

    async def read(self, consumer: str, count: int) -> list[Entry]:
        """See `Cache.read`."""
        return self._take("consumer IS NULL", consumer, count)

    async def held(self, consumer: str, count: int, after: str) -> list[Entry]:
        """See `Cache.held`."""
        return self._take("consumer = ?3 AND id > ?4", consumer, count, consumer, int(after))

    async def claim(self, consumer: str, idle: float, count: int) -> list[Entry]:
        """See `Cache.claim`."""
        # A delivery of "later" was before the host was started anew: nobody can have it.
        which = "consumer IS NOT NULL AND (delivered <= ?3 OR delivered > ?3 + ?4)"
        return self._take(which, consumer, count, self._clock() - idle, idle)

    async def ack(self, entries: Sequence[Entry]) -> int:
        """See `Cache.ack`."""
        with self._transaction() as db:
            gone = 0
            until = self._clock() + self.settings.remember
            for entry in entries:
                if db.execute("DELETE FROM entry WHERE id = ? AND parked = 0", (int(entry.id),)).rowcount:
                    gone += 1
                    db.execute(
                        "UPDATE balance SET pending = pending - 1 WHERE name = ? AND key = ?", (self.name, entry.key)
                    )
                    db.execute(
                        "UPDATE operation SET expires = ? WHERE name = ? AND op = ?", (until, self.name, entry.op)
                    )
            return gone

    async def fail(self, entry: Entry, tries: int, reason: str) -> bool:
        """See `Cache.fail`."""
        with self._transaction() as db:
            db.execute("UPDATE entry SET tries = tries + 1 WHERE id = ?", (int(entry.id),))
            found = db.execute(
                "UPDATE entry SET parked = 1, consumer = NULL WHERE id = ? AND tries >= ?", (int(entry.id), tries)
            )
            if not found.rowcount:
                return False
            db.execute("UPDATE balance SET frozen = ? WHERE name = ? AND key = ?", (reason, self.name, entry.key))
            return True

    async def parked(self) -> list[tuple[Entry, str]]:
        """See `Cache.parked`."""
        with self._transaction() as db:
            found = db.execute(
                "SELECT id, op, key, delta, seq, fence, left_over,"
                " (SELECT frozen FROM balance WHERE name = entry.name AND key = entry.key)"
                " FROM entry WHERE name = ? AND parked = 1 ORDER BY id",
                (self.name,),
            ).fetchall()
            return [(_entry(row[:7]), row[7] or "") for row in found]

    async def retry(self, key: str) -> int:
        """See `Cache.retry`."""
        with self._transaction() as db:
            back = db.execute(
                "UPDATE entry SET parked = 0, tries = 0, consumer = NULL WHERE name = ? AND key = ? AND parked = 1",
                (self.name, key),
            ).rowcount
            db.execute("UPDATE balance SET frozen = '' WHERE name = ? AND key = ?", (self.name, key))
            return back

    async def close(self) -> None:
        """Close the file; memory stays as long as the cache does."""
        with self._lock:
            if self.path is not None and self._opened is not None:
                self._opened.close()
                self._opened = None

    def _take(self, which: str, consumer: str, count: int, *values: object) -> list[Entry]:
        with self._transaction() as db:
            found = db.execute(
                "SELECT id, op, key, delta, seq, fence, left_over FROM entry"  # noqa: S608  `which` is ours
                f" WHERE name = ?1 AND parked = 0 AND {which} ORDER BY id LIMIT ?2",
                (self.name, count, *values),
            ).fetchall()
            db.executemany(
                "UPDATE entry SET consumer = ?, delivered = ? WHERE id = ?",
                [(consumer, self._clock(), row[0]) for row in found],
            )
            return [_entry(row) for row in found]

    def _one(self, db: sqlite3.Connection, query: str, value: object) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = db.execute(query, (self.name, value)).fetchone()
        return found

    def _state(self, db: sqlite3.Connection) -> tuple[str, int]:
        found = db.execute("SELECT phase, fence FROM state WHERE name = ?", (self.name,)).fetchone()
        return ("none", 0) if found is None else (found[0], found[1])

    def _record(self, db: sqlite3.Connection, values: tuple[object, ...], expires: float | None) -> None:
        db.execute(
            "REPLACE INTO operation (name, op, key, delta, word, left_over, seq, expires)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self.name, *values, expires),
        )

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        if not self._lock.acquire(timeout=self.settings.patience):
            raise Unavailable(
                f"{self._label}: another thread has it for {self.settings.patience:g} s; nothing was done"
            )
        try:
            db = self._open()
            self._execute(lambda: db.execute("BEGIN IMMEDIATE"))
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            self._execute(lambda: self._commit(db))
        finally:
            self._lock.release()

    def _commit(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("COMMIT")
        except sqlite3.Error:  # a file: what was not committed is not done
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _open(self) -> sqlite3.Connection:
        if self._opened is not None:
            return self._opened
        try:
            db = sqlite3.connect(
                self.path or ":memory:",
                timeout=self.settings.patience,
                isolation_level=None,
                check_same_thread=False,
            )
            if self.path is not None:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")  # an accepted operation is on the disk
            db.executescript(resources.files(__name__.rpartition(".")[0]).joinpath("schema.sql").read_text())
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise Unavailable(f"{self._label} did not come free: {error}") from error
            raise Misuse(
                f"{self._label} cannot be opened: {error}; name a file in a folder that may be written"
            ) from error
        self._opened = db
        return db

    def _execute(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            raise Unavailable(f"{self._label}: {error}; nothing was done") from error

    @property
    def _label(self) -> str:
        return f"sqlite:///{self.path}" if self.path is not None else "memory://"


def _entry(row: Sequence[Any]) -> Entry:
    place, op, key, delta, seq, fence, left = row
    return Entry(id=str(place), op=op, key=key, delta=delta, seq=seq, fence=fence, left=left)
