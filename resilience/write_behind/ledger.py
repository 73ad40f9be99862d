"""The database's side: balances in the service's own table, and each operation once.

One row of TURN says who may change balances. Every transaction here locks that row shared first, and only a step of
the turn locks it alone, so a step waits for the changes that began before it and is seen by those that begin after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

from sqlalchemy import (
    ColumnClause,
    Connection,
    Engine,
    and_,
    bindparam,
    column,
    create_engine,
    delete,
    insert,
    select,
    table,
    update,
)
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InternalError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask

from ..forks import renew_in_child
from .schema import KEY, OPERATION, TURN, metadata
from .values import HIGHEST, Balances, Entry, Receipt, Reply, Row, check_text

__all__ = ["Applied", "Failed", "Ledger"]

_OF_THE_VALUE = frozenset({1048, 1264, 1364, 1366, 1406, 3819, 4025})
"""Codes of MariaDB and MySQL for a value that the table refuses; their driver calls some of them operational."""
_PAGE = 500


class Applied(Enum):
    """What became of an entry."""

    APPLIED = "applied"
    """It is in the database, now or from an earlier delivery."""
    WAITING = "waiting"
    """An earlier operation on its key is not there yet."""
    CONFLICT = "conflict"
    """Another operation has its id or its place: nothing may be guessed."""


class Failed(BackstayError):
    """The database refuses this entry; trying again will not help for long."""


class Ledger:
    """Balances on one engine, which any number of threads may use.

    Args:
        name: of the write-behind.
        database: a URL of SQLAlchemy, or an `Engine`.
        balances: where they stand.

    Raises:
        Misuse: the URL is none.
    """

    def __init__(self, name: str, database: str | Engine, balances: Balances) -> None:
        self.name = name
        self.engine = database if isinstance(database, Engine) else _engine(database)
        self._owned = not isinstance(database, Engine)
        if self._owned:
            renew_in_child(self)
        self._kind = balances.kind
        schema, _, plain = balances.table.rpartition(".")
        key: ColumnClause[Any] = column(balances.key)
        balance: ColumnClause[Any] = column(balances.balance)
        self._table = table(plain, key, balance, schema=schema or None)
        self._key, self._balance = self._table.c[balances.key], self._table.c[balances.balance]

    def renew(self) -> None:
        """Leave the parent's connections to the parent, in a forked child; a handed over engine is not ours."""
        self.engine.dispose(close=False)

    def create_tables(self) -> None:
        """Create our tables and the row of the turn where they are missing; your table is never touched."""
        with self._asked():
            metadata.create_all(self.engine)
            with self.engine.connect() as connection:
                if connection.execute(select(TURN.c.name).where(TURN.c.name == self.name)).scalar() is not None:
                    return
        with contextlib.suppress(Failed), self._transaction() as connection:  # another may be first
            connection.execute(insert(TURN).values(name=self.name, phase="database", fence=0))

    def close(self) -> None:
        """Close idle connections, unless the engine was handed over."""
        if self._owned:
            self.engine.dispose()

    # -- the turn

    def turn(self) -> tuple[str, int]:
        """Return who may change balances, `database`, `entering`, `cache` or `leaving`, and the turn's fence."""
        with self._asked(), self.engine.connect() as connection:
            return self._standing(connection)

    def step(self, expected: Iterable[tuple[str, int]], phase: str, fence: int) -> bool:
        """Go from one of `expected` to `phase` and `fence`; return False where the turn stands elsewhere."""
        with self._transaction() as connection:
            found = connection.execute(
                select(TURN.c.phase, TURN.c.fence).where(TURN.c.name == self.name).with_for_update()
            ).one_or_none()
            if self._found(found) not in set(expected):
                return False
            changed = connection.execute(update(TURN).where(TURN.c.name == self.name).values(phase=phase, fence=fence))
            return changed.rowcount == 1

    def load(self, fence: int) -> Generator[list[Row], None, None]:
        """Give all balances with the number of their last operation, in pages, and mark them as loaded for `fence`.

        Raises:
            Misuse: a balance is negative or above 10^15, or a key cannot be used.
        """
        after: Any = None
        while True:
            with self._transaction() as connection:
                if self._hold(connection) != ("entering", fence):
                    return
                query = select(self._key, self._balance).order_by(self._key).limit(_PAGE)
                found = connection.execute(query if after is None else query.where(self._key > after)).all()
                if not found:
                    return
                after = found[-1][0]
                balances = {self._text(key): balance for key, balance in found}
                for key, balance in balances.items():
                    if isinstance(balance, bool) or int(balance) != balance or not 0 <= balance <= HIGHEST:
                        raise Misuse(f"balance of {key!r} is {balance!r}; the cache takes whole numbers, 0 to 10^15")
                where = and_(KEY.c.name == self.name, KEY.c.key.in_(balances))
                known: dict[str, int] = {
                    row.key: row.seq for row in connection.execute(select(KEY.c.key, KEY.c.seq).where(where))
                }
                new = [
                    {"name": self.name, "key": key, "seq": 0, "fence": fence} for key in balances if key not in known
                ]
                if known:
                    connection.execute(update(KEY).where(where).values(fence=fence))
                if new:
                    connection.execute(insert(KEY), new)
                rows = [(key, int(balance), known.get(key, 0)) for key, balance in balances.items()]
            yield rows

    def latest(self, count: int) -> list[Receipt]:
        """Return the latest operations that the database accepted itself."""
        query = (
            select(OPERATION.c.op, OPERATION.c.key, OPERATION.c.delta, OPERATION.c.left_over)
            .where(OPERATION.c.name == self.name, OPERATION.c.seq == 0)
            .order_by(OPERATION.c.number.desc())
            .limit(count)
        )
        with self._asked(), self.engine.connect() as connection:
            return [
                Receipt(op=row.op, key=row.key, delta=row.delta, left=row.left_over, source="database")
                for row in connection.execute(query)
            ]

    def rows(self, fence: int) -> dict[str, tuple[int, int]]:
        """Return the balance and the last operation's number of each key that was loaded for `fence`."""
        with self._asked(), self.engine.connect() as connection:
            seqs: dict[str, int] = {
                row.key: row.seq
                for row in connection.execute(
                    select(KEY.c.key, KEY.c.seq).where(KEY.c.name == self.name, KEY.c.fence == fence)
                )
            }
            found = connection.execute(select(self._key, self._balance)).all()
            return {str(key): (int(balance), seqs[str(key)]) for key, balance in found if str(key) in seqs}

    def forget(self) -> int:
        """Drop ids of operations of earlier turns; return how many. Repeated from then on, they are done again."""
        with self._transaction() as connection:
            _, fence = self._hold(connection)
            gone = connection.execute(
                delete(OPERATION).where(OPERATION.c.name == self.name, OPERATION.c.fence < fence)
            ).rowcount
        return int(gone)

    # -- operations

    def change(self, op: str, key: str, delta: int) -> Reply:
        """Change a balance in the database itself; words as for `Cache.change`."""
        try:
            with self._transaction(op) as connection:
                phase, fence = self._hold(connection)
                known = self._recorded(connection, op)
                if known is not None:
                    if (known.key, known.delta) != (key, delta):
                        return Reply(word="other", detail=str(known.delta), seq=known.key, repeated=True)
                    return Reply(word="done", detail=str(known.left_over), repeated=True)
                if phase != "database":
                    return Reply(word="closed", detail=phase)
                where = self._key == self._kind_of(key)
                changed = connection.execute(
                    update(self._table)
                    .where(where, self._balance >= -delta, self._balance <= HIGHEST - delta)
                    .values({self._balance: self._balance + delta})
                ).rowcount
                left = connection.execute(select(self._balance).where(where)).scalar()
                if left is None:
                    return Reply(word="absent")
                if not changed:
                    return Reply(word="refused" if delta < 0 else "beyond", detail=str(left))
                connection.execute(
                    insert(OPERATION).values(
                        name=self.name, op=op, key=key, delta=delta, seq=0, fence=fence, left_over=int(left)
                    )
                )
                return Reply(word="done", detail=str(left))
        except Failed:
            with self._asked(), self.engine.connect() as connection:
                known = self._recorded(connection, op)
            if known is None:
                raise
            return self.change(op, key, delta)  # the same id came twice at once, and the other was first

    def balance(self, key: str) -> tuple[str, int | None]:
        """Return who has the turn, and a balance as of then, or None where there is none."""
        with self._transaction() as connection:
            turn, _ = self._hold(connection)
            found = connection.execute(select(self._balance).where(self._key == self._kind_of(key))).scalar()
        return turn, None if found is None else int(found)

    def outcome(self, op: str) -> Receipt | None:
        """Return what is recorded under an id."""
        with self._asked(), self.engine.connect() as connection:
            known = self._recorded(connection, op)
        if known is None:
            return None
        source: Any = "cache" if known.seq else "database"
        return Receipt(op=op, key=known.key, delta=known.delta, left=known.left_over, source=source, repeated=True)

    def apply(self, entries: Sequence[Entry]) -> list[Applied]:
        """Write entries in one transaction, each once and in the order of its key; return what became of each.

        Raises:
            Failed: the database refuses one of them; none is written.
            Unavailable: it does not answer; none is written.
            OutcomeUnknown: it did not answer the commit; apply them again.
        """
        with self._transaction() as connection:
            phase, fence = self._hold(connection)
            last = self._last(connection, {entry.key for entry in entries})
            # After the rows of the keys are locked: what others committed before is seen by this read.
            known = self._known(connection, [entry.op for entry in entries])
            verdicts: dict[str, Applied] = {}
            fresh: list[Entry] = []
            for entry in sorted(entries, key=lambda entry: (entry.key, entry.seq)):
                recorded = known.get(entry.op)
                if recorded is not None:
                    same = recorded == (entry.key, entry.seq)
                    verdicts[entry.id] = Applied.APPLIED if same else Applied.CONFLICT
                elif entry.key not in last or entry.fence != fence or phase not in ("cache", "leaving"):
                    verdicts[entry.id] = Applied.CONFLICT
                elif entry.seq > last[entry.key] + 1:
                    verdicts[entry.id] = Applied.WAITING
                elif entry.seq <= last[entry.key]:
                    verdicts[entry.id] = Applied.CONFLICT
                else:
                    last[entry.key] = entry.seq
                    known[entry.op] = entry.key, entry.seq
                    fresh.append(entry)
                    verdicts[entry.id] = Applied.APPLIED
            if fresh:
                self._write(connection, fresh, last)
        return [verdicts[entry.id] for entry in entries]

    def _write(self, connection: Connection, fresh: list[Entry], last: dict[str, int]) -> None:
        connection.execute(
            insert(OPERATION),
            [
                {
                    "name": self.name,
                    "op": entry.op,
                    "key": entry.key,
                    "delta": entry.delta,
                    "seq": entry.seq,
                    "fence": entry.fence,
                    "left_over": entry.left,
                }
                for entry in fresh
            ],
        )
        sums: dict[str, int] = {}
        for entry in fresh:
            sums[entry.key] = sums.get(entry.key, 0) + entry.delta
        for key, delta in sums.items():
            changed = connection.execute(
                update(self._table)
                .where(self._key == self._kind_of(key), self._balance >= -delta)
                .values({self._balance: self._balance + delta})
            ).rowcount
            if changed != 1:
                raise Failed(f"{key!r} has no balance of {-delta} or more in {self._table.name!r}")
        connection.execute(
            update(KEY).where(KEY.c.name == self.name, KEY.c.key == bindparam("of")).values(seq=bindparam("to")),
            [{"of": key, "to": last[key]} for key in sums],
        )

    def _last(self, connection: Connection, keys: set[str]) -> dict[str, int]:
        """Lock the rows of keys, in one order for all, and return the number of each one's last operation."""
        found = connection.execute(
            select(KEY.c.key, KEY.c.seq)
            .where(KEY.c.name == self.name, KEY.c.key.in_(keys))
            .order_by(KEY.c.key)
            .with_for_update()
        )
        return {row.key: row.seq for row in found}

    def _known(self, connection: Connection, ops: Sequence[str]) -> dict[str, tuple[str, int]]:
        found = connection.execute(
            select(OPERATION.c.op, OPERATION.c.key, OPERATION.c.seq).where(
                OPERATION.c.name == self.name, OPERATION.c.op.in_(ops)
            )
        )
        return {row.op: (row.key, row.seq) for row in found}

    def _recorded(self, connection: Connection, op: str) -> Any:
        return connection.execute(
            select(OPERATION.c.key, OPERATION.c.delta, OPERATION.c.seq, OPERATION.c.left_over).where(
                OPERATION.c.name == self.name, OPERATION.c.op == op
            )
        ).one_or_none()

    def _hold(self, connection: Connection) -> tuple[str, int]:
        """Lock the turn, shared with other changes, and return it."""
        if connection.dialect.name == "sqlite":  # it has one writer: be it from the start, not from a read on
            connection.execute(update(TURN).where(TURN.c.name == self.name).values(fence=TURN.c.fence))
            return self._standing(connection)
        found = connection.execute(
            select(TURN.c.phase, TURN.c.fence).where(TURN.c.name == self.name).with_for_update(read=True)
        )
        return self._found(found.one_or_none())

    def _standing(self, connection: Connection) -> tuple[str, int]:
        found = connection.execute(select(TURN.c.phase, TURN.c.fence).where(TURN.c.name == self.name))
        return self._found(found.one_or_none())

    def _found(self, row: Any) -> tuple[str, int]:
        if row is None:
            raise Misuse(f"write-behind {self.name!r} is not in this database; call create_tables() once")
        return row.phase, row.fence

    def _text(self, key: object) -> str:
        text = str(key)
        if check_text("key in the table", text) and self._kind(text) != key:
            raise Misuse(f"key {key!r:.80} cannot be used; give Balances(kind=...) that makes it from its text")
        return text

    def _kind_of(self, key: str) -> Any:
        try:
            return self._kind(key)
        except (TypeError, ValueError) as error:
            raise Misuse(f"key {key!r} cannot be made a {self._kind.__name__}: {error}") from error

    @contextmanager
    def _transaction(self, op: str | None = None) -> Generator[Connection, None, None]:
        with self._asked(), self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                if not isinstance(error, DBAPIError):
                    raise
                raise OutcomeUnknown(
                    "the database did not answer a commit; repeat the operation with the same id to ask",
                    ask={"write_behind": self.name, "operation": op},
                ) from error

    @contextmanager
    def _asked(self) -> Generator[None, None, None]:
        try:
            yield
        except DBAPIError as error:
            text = mask(str(error.orig))[:300]
            if _is_of_the_value(error):
                raise Failed(f"the database refuses it: {text}") from error
            if isinstance(error, ProgrammingError) and not error.connection_invalidated:
                raise Misuse(
                    f"the database does not know a table or a column: {text}; was create_tables() called?"
                ) from error
            raise Unavailable(f"the database did not do it: {text}") from error
        except SQLAlchemyError as error:  # no connection came free in time
            raise Unavailable(f"the database was not reached: {mask(str(error))[:300]}") from error


def _is_of_the_value(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return False
    if isinstance(error, OperationalError):
        code: Any = error.orig.args[0] if error.orig is not None and error.orig.args else None
        return code in _OF_THE_VALUE
    return isinstance(error, IntegrityError | DataError | InternalError)


def _engine(url: str) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise Misuse(f"{mask(url)!r} is no database: {error}; use sqlite:///... or postgresql+psycopg://...") from error
