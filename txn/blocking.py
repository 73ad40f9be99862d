"""The blocking face: `TransactionManager` and its transactions."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from backstay.blocking import BlockingRuntime, drive
from backstay.errors import BackstayError, Misuse
from backstay.url import require

from .cast import Company, Crossing, Where
from .journal import TransactionRecord
from .tcc.action import Action
from .tcc.settings import Settings
from .tcc.states import Outcome, State
from .tcc.transports.http import Http
from .tcc.transports.local import Local
from .tcc.work import Work

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Engine

__all__ = ["TccTransaction", "TransactionManager"]


class TransactionManager:
    """Starts, finishes and recovers distributed transactions of this process; for threads.

        tm = TransactionManager.connect("sqlite:///journal.db", actions=[reserve_stock])
        with tm.tcc(key=f"basket:{basket_id}") as tx:
            tx.call(reserve_stock, sku="1029743", quantity=2)
            tx.call("http://payments/charges", amount="12.90")

    Guarantees: all branches end confirmed or all end cancelled, however often this process, its journal's
    database or a participant dies; the decision is durable before the end of the block returns; a key runs
    once. Does not guarantee isolation: between try and confirm others can see what a try wrote. Effects happen
    once only where participants keep the barrier (`Participant`, `Barrier`).
    """

    def __init__(self, company: Company, http: Http) -> None:
        self.company = company
        self._http = http
        _open.add(self)

    @classmethod
    def connect(
        cls,
        journal: str | Engine,
        *,
        actions: Iterable[Action] = (),
        hosts: Mapping[str, str | httpx.BaseTransport] | None = None,
        http: httpx.Client | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Return a manager whose journal is in a SQL database; nothing is opened before the first transaction.

        Args:
            journal: `sqlite:///journal.db`, `postgresql+psycopg://...`, `mysql+pymysql://...`, or an Engine.
                The tables `backstay_txn_*` are made there.
            actions: in-process branches (`Tcc`, `Participant`); recovery after a restart finds them by name.
            hosts: where the hosts in branch URLs are today: a base URL, or an httpx transport such as
                `httpx.WSGITransport(app)`. The journal keeps the URLs as they were given to `tx.call`.
            http: the client for all other hosts, with its own headers and credentials; made here if not given.
            settings: deadlines, timeouts, patience, lease.

        Raises:
            Misuse: malformed URL, unsupported database, SQLite in memory, two actions of one name, bad host.
            MissingExtra: SQLAlchemy or the driver is not installed.
        """
        require("sqlalchemy", "sql")
        from .journals.opening import blocking_database
        from .journals.sql import SqlJournal

        database = blocking_database(journal)
        sender = Http(hosts or {}, http)
        company = Company(
            journal=SqlJournal(database),
            actions=actions,
            settings=settings or Settings(),
            runtime=BlockingRuntime(),
            transport=lambda known: Crossing(Local(known), sender),
            connections=[database, sender],
        )
        return cls(company, sender)

    @property
    def settings(self) -> Settings:
        """The settings, as given."""
        return self.company.settings

    def register(self, action: Action) -> None:
        """Add an action after the fact; do it at start-up, or recovery may run without it.

        Raises:
            Misuse: another action has its name.
        """
        self.company.register(action)

    def tcc(self, *, key: str | None = None, deadline: float | None = None) -> TccTransaction:
        """Return a transaction for a `with` block: leaving it well confirms, leaving it by an exception cancels.

        Args:
            key: an idempotency key of 1 to 200 characters. The journal keeps it with the transaction; entering
                a second block with the same key raises `AlreadyConfirmed`, `AlreadyCancelled` or
                `StillInFlight`, and nothing is run.
            deadline: seconds until the decision; by default that of the settings.

        Raises, at the end of the block:
            TransactionCancelled: others cancelled it, because the deadline passed or this process was too slow.
            OutcomeUnknown: the decision was not answered; ask `outcome(error.ask["gtrid"])`.
        """
        return TccTransaction(self.company, key, deadline)

    def start(self) -> None:
        """Join the journal and start recovery now, instead of at the first transaction."""
        drive(self.company.cast.seat.take())

    def outcome(self, gtrid: str) -> Outcome:
        """Return what became of a transaction: confirmed, cancelled (both final) or in doubt (not decided yet).

        Raises:
            Misuse: the journal does not know it.
        """
        self.start()
        return drive(self.company.cast.coordinator.outcome(gtrid))

    def find(self, key: str) -> TransactionRecord | None:
        """Return the transaction with this idempotency key, without its branches; None if there is none."""
        self.start()
        return drive(self.company.journal.find(key))

    def recover(self) -> int:
        """Make one round of recovery now; return how many transactions were touched."""
        return drive(self.company.cast.recoverer.round())

    def clean_barrier(self, engine: Engine, *, safety: float = 172_800.0) -> int:
        """Remove barrier rows of transactions that ended here more than `safety` seconds ago; return how many.

        Rows of transactions that this journal does not know (of other coordinators, or purged) are left alone,
        so clean barriers before purging the journal.

        Args:
            engine: the database that holds the barrier.
            safety: seconds, more than a day: for a day a participant takes tries, and a late one must still
                meet the mark of its cancel. By default two days.
        """
        from .barrier.cleaning import allowed, candidates, remove

        allowed(safety)
        self.start()
        removed, after = 0, ""
        while True:
            with engine.connect() as connection:
                found = candidates(connection, after, 500)
            if not found:
                return removed
            after = found[-1]
            gone = drive(self.company.journal.ended(found, safety))
            with engine.begin() as connection:
                removed += remove(connection, gone)

    def purge(self, *, age: float) -> int:
        """Remove transactions that ended more than `age` seconds ago; return how many. Their keys may run again."""
        self.start()
        return drive(self.company.journal.purge(age, 1000))

    def close(self, timeout: float = 2.0) -> None:
        """Stop background work within `timeout` seconds and give the lease back; whatever is asked later is Misuse."""
        if not self.company.closed:
            _open.discard(self)
            try:
                drive(self.company.close(timeout))
            finally:
                self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_open: weakref.WeakSet[TransactionManager] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Give leases back at exit, so that nobody waits for them; a lease that cannot be given back runs out."""
    for one in list(_open):
        with contextlib.suppress(BackstayError):
            one.close(timeout=1.0)


class TccTransaction:
    """One transaction: a `with` block of branches.

    Attributes:
        result: JSON that is kept with the decision; `AlreadyConfirmed.result` has it when the key comes again.
    """

    def __init__(self, company: Company, key: str | None, deadline: float | None) -> None:
        self.company = company
        self._key, self._deadline = key, deadline
        self._work: Work | None = None
        self.result: Any = None

    def _running(self) -> Work:
        if self._work is None:
            raise Misuse("enter the transaction first: `with tm.tcc() as tx: tx.call(...)`")
        return self._work

    @property
    def gtrid(self) -> str:
        """The global transaction id, to ask `outcome` with later."""
        return self._running().gtrid

    @property
    def state(self) -> State:
        """How far it has come, as this process knows it."""
        return self._running().state

    def __enter__(self) -> Self:
        if self._work is not None:
            raise Misuse("a transaction runs once; take another from tm.tcc()")
        self._work = drive(self.company.cast.coordinator.begin(self._key, self._deadline))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        work = self._running()
        work.result = self.result
        drive(self.company.cast.coordinator.leave(work, error))

    def call(self, where: Where, /, **payload: Any) -> Any:
        """Try a branch and return what its try returned.

        Args:
            where: an action given to `connect`, or a URL below which try, confirm and cancel are served.
            payload: plain JSON, at most 64 KiB; sent again with confirm and cancel.

        Raises:
            TryRefused: the participant said no. The transaction will be cancelled.
            TryFailed: no usable answer. The transaction will be cancelled, this branch included.
            TryInvalid: the request itself is wrong. The transaction will be cancelled.
            TransactionCancelled: the deadline has passed, or others cancelled.
            Misuse: the payload does not fit, or the action is unknown; nothing was sent.
            Unavailable: the journal did not log the branch; nothing was sent.
        """
        calls = [self.company.call(where, payload)]
        return drive(self.company.cast.coordinator.call(self._running(), calls))[0]

    def parallel(self, *calls: tuple[Where, Mapping[str, Any]]) -> list[Any]:
        """Try several branches side by side, started in this order; return what their tries returned.

            tx.parallel((reserve_stock, {"sku": "1029743"}), ("http://payments/charges", {"amount": "12.90"}))

        Saves journal writes as well as time. Raises, when all have answered, the first failure in this order;
        see `call`.
        """
        checked = [self.company.call(where, payload) for where, payload in calls]
        return drive(self.company.cast.coordinator.call(self._running(), checked)) if checked else []
