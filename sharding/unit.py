"""The unit of work over shards: who writes, how it commits, and what is reported where it did not (E4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from .errors import CrossShardWrite, PartialCommit, UnitPoisoned
from .internals import PREPARED, SessionTransaction

if TYPE_CHECKING:
    from .session import ShardedSession

__all__ = ["UnitOfWork", "unit_of"]


class UnitOfWork(SessionTransaction):
    """A session's outermost transaction, with one branch a shard.

    Branches that only read are committed first, then the writers in the order of the layout. The first failure ends
    it: what has
    not been sent is rolled back, and unless nothing at all was committed `PartialCommit` says how each branch ended.
    """

    session: ShardedSession  # pyright: ignore[reportIncompatibleVariableOverride]  # only that class makes one

    def __init__(self, session: ShardedSession, origin: Any) -> None:
        self.writers: set[str] = set()
        self.failure: BaseException | None = None
        self.handed: set[Connection] = set()
        super().__init__(session, origin)

    def enlist(self, shards: set[str], mode: str) -> None:
        """Note that these shards are about to be written.

        Raises:
            CrossShardWrite: mode `single` has a writer on another shard; nothing was sent.
        """
        if mode == "single" and len(self.writers | shards) > 1:
            names = ", ".join(sorted(self.writers | shards))
            raise CrossShardWrite(
                f"this unit of work would write on several shards ({names}), and one commit over them is not atomic;"
                " use one session a shard, or ShardedSession(commit='best_effort')"
            )
        self.writers |= shards

    def commit(self, _to_root: bool = False) -> None:
        """Commit every branch.

        Raises:
            UnitPoisoned: a statement of this unit failed; everything was rolled back.
            PartialCommit: the branches did not end the same, or an answer was lost.
        """
        failure = self.failure or self._failed_unseen()
        if failure is not None:
            self.rollback(_to_root=True)
            raise UnitPoisoned(
                "a statement of this unit of work failed, so all shards were rolled back; wrap one that may fail"
                " in session.begin_nested()"
            ) from failure
        if not self.session.twophase:
            if self._state is not PREPARED:
                self._prepare_impl()
            self._commit_branches()
        super().commit(_to_root=_to_root)

    def _failed_unseen(self) -> BaseException | None:
        """The error of a connection that was handed out, on which a statement failed that the session did not send.

        Only PostgreSQL needs the question: it answers COMMIT of a failed transaction with a rollback and no error.
        """
        if self.session.layout.dialect == "postgresql" and self._state is not PREPARED:
            for conn in self.handed:
                try:
                    conn.execute(text("SELECT 1"))
                except DBAPIError as error:
                    return error
        return None

    def _commit_branches(self) -> None:
        layout = self.session.layout
        engines = {engine: name for name, engine in layout.engines.items()}
        branches = {
            conn: entry for conn, entry in self._connections.items() if isinstance(conn, Connection) and entry[2]
        }
        order = {name: at for at, name in enumerate(layout.shards)}
        names = {conn: engines.get(conn.engine, "") for conn in branches}
        waiting = sorted(branches, key=lambda conn: (names[conn] in self.writers, order.get(names[conn], 0)))
        committed: list[str] = []
        while waiting:
            conn = waiting.pop(0)
            try:
                branches[conn][1].commit()
            except BaseException as error:
                for rest in waiting:
                    branches[rest][1].rollback()
                    self._end(rest)
                # SQLAlchemy lets go of the transaction, the database may not have (SQLite keeps it open): end the
                # connection.
                conn.invalidate(error)
                self._end(conn)
                self._report(names[conn], committed, error)
                raise
            self._end(conn)
            if names[conn] in self.writers:
                committed.append(names[conn])

    def _end(self, conn: Connection) -> None:
        """Leave nothing of a branch to the base class but giving its connection back."""
        ended: Any = (conn, _ENDED, False, self._connections[conn][3])
        self._connections[conn] = self._connections[conn.engine] = ended

    def _report(self, shard: str, committed: list[str], error: BaseException) -> None:
        unknown = [shard] if shard in self.writers and not _answered(error, self.session.layout.dialect) else []
        if committed or unknown:
            raise PartialCommit(
                committed=committed,
                rolled_back=sorted(self.writers - set(committed) - set(unknown)),
                unknown=unknown,
                errors={shard: error},
            ) from error


def _answered(error: BaseException, dialect: str) -> bool:
    """Whether the server itself refused the COMMIT, so that the branch is certainly gone; otherwise nobody knows."""
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return False
    cause: Any = error.orig
    if dialect == "postgresql":  # what the server says has a code, what the driver says has none
        return bool(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None))
    if dialect in ("mysql", "mariadb"):
        code = cause.args[0] if cause.args else None
        return isinstance(code, int) and not 2000 <= code < 3000
    return True


class _Ended:
    """Stands where a transaction was that has been committed or rolled back."""

    is_active = False

    def commit(self) -> None:
        """Nothing is left to do."""

    rollback = close = commit


_ENDED = _Ended()


def unit_of(session: ShardedSession) -> UnitOfWork | None:
    """The unit of work that a session is in, from inside of a savepoint too."""
    # Not kept: a session and its transaction would hold each other, and every request would wait for the collector.
    transaction: Any = session._transaction
    while transaction is not None and transaction._parent is not None:
        transaction = transaction._parent
    return cast("UnitOfWork | None", transaction)
