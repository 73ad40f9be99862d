"""The asyncio face: `AsyncTransactionManager` and its transactions; see the blocking face for the guarantees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from backstay.asynchronous import AsyncioRuntime
from backstay.errors import Misuse
from backstay.url import require

from .cast import Company, Crossing, Where
from .journal import TransactionRecord
from .tcc.action import Action
from .tcc.settings import Settings
from .tcc.states import Outcome, State
from .tcc.transports.http import AsyncHttp
from .tcc.transports.local import AsyncLocal
from .tcc.work import Work

if TYPE_CHECKING:
    import httpx
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["AsyncTccTransaction", "AsyncTransactionManager"]


class AsyncTransactionManager:
    """Starts, finishes and recovers distributed transactions of this process; for one asyncio event loop.

    The twin of `TransactionManager`, with the same guarantees. Cancelling a task inside a block cancels the
    transaction; the end of a block is sheltered from cancellation, so a decision is never torn.
    """

    def __init__(self, company: Company, http: AsyncHttp) -> None:
        self.company = company
        self._http = http

    @classmethod
    def connect(
        cls,
        journal: str | AsyncEngine,
        *,
        actions: Iterable[Action] = (),
        hosts: Mapping[str, str | httpx.AsyncBaseTransport] | None = None,
        http: httpx.AsyncClient | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Return a manager whose journal is in a SQL database; nothing is opened before the first transaction.

        Args:
            journal: `sqlite:///journal.db`, `postgresql+psycopg://...`, or an AsyncEngine. `postgresql://`
                gets an asyncio driver, SQLite is written by a thread. The tables `backstay_txn_*` are made there.
            actions: in-process branches (`Tcc`, `Participant`, `AsyncParticipant`); recovery after a restart
                finds them by name. Blocking ones are called in a thread.
            hosts: where the hosts in branch URLs are today: a base URL, or an httpx transport such as
                `httpx.ASGITransport(app)`. The journal keeps the URLs as they were given to `tx.call`.
            http: the client for all other hosts, with its own headers and credentials; made here if not given.
            settings: deadlines, timeouts, patience, lease.

        Raises:
            Misuse: malformed URL, unsupported database, SQLite in memory, two actions of one name, bad host.
            MissingExtra: SQLAlchemy or the driver is not installed.
        """
        require("sqlalchemy", "sql")
        from .journals.opening import async_database
        from .journals.sql import SqlJournal

        database = async_database(journal)
        sender = AsyncHttp(hosts or {}, http)
        company = Company(
            journal=SqlJournal(database),
            actions=actions,
            settings=settings or Settings(),
            runtime=AsyncioRuntime(),
            transport=lambda known: Crossing(AsyncLocal(known), sender),
            connections=[database, sender],
        )
        return cls(company, sender)

    @property
    def settings(self) -> Settings:
        """The settings, as given."""
        return self.company.settings

    def register(self, action: Action) -> None:
        """Add an action after the fact; do it at start-up, or recovery may run without it."""
        self.company.register(action)

    def tcc(self, *, key: str | None = None, deadline: float | None = None) -> AsyncTccTransaction:
        """Return a transaction for a `with` block: leaving it well confirms, leaving it by an exception cancels."""
        return AsyncTccTransaction(self.company, key, deadline)

    async def start(self) -> None:
        """Join the journal and start recovery now, instead of at the first transaction."""
        await self.company.cast.seat.take()

    async def outcome(self, gtrid: str) -> Outcome:
        """Return what became of a transaction: confirmed, cancelled (both final) or in doubt (not decided yet)."""
        await self.start()
        return await self.company.cast.coordinator.outcome(gtrid)

    async def find(self, key: str) -> TransactionRecord | None:
        """Return the transaction with this idempotency key, without its branches; None if there is none."""
        await self.start()
        return await self.company.journal.find(key)

    async def recover(self) -> int:
        """Make one round of recovery now; return how many transactions were touched."""
        return await self.company.cast.recoverer.round()

    async def clean_barrier(self, engine: AsyncEngine, *, safety: float = 172_800.0) -> int:
        """Remove barrier rows of transactions that ended here more than `safety` seconds ago; return how many."""
        from .barrier.cleaning import allowed, candidates, remove

        allowed(safety)
        await self.start()
        removed, after = 0, ""
        while True:
            async with engine.connect() as connection:
                found = await connection.run_sync(candidates, after, 500)
            if not found:
                return removed
            after = found[-1]
            gone = await self.company.journal.ended(found, safety)
            async with engine.begin() as connection:
                removed += await connection.run_sync(remove, gone)

    async def purge(self, *, age: float) -> int:
        """Remove transactions that ended more than `age` seconds ago; return how many. Their keys may run again."""
        await self.start()
        return await self.company.journal.purge(age, 1000)

    async def close(self, timeout: float = 2.0) -> None:
        """Stop background work within `timeout` seconds and give the lease back; whatever is asked later is Misuse."""
        if not self.company.closed:
            try:
                await self.company.close(timeout)
            finally:
                await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncTccTransaction:
    """One transaction: an `async with` block of branches.

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
            raise Misuse("enter the transaction first: `async with tm.tcc() as tx: await tx.call(...)`")
        return self._work

    @property
    def gtrid(self) -> str:
        """The global transaction id, to ask `outcome` with later."""
        return self._running().gtrid

    @property
    def state(self) -> State:
        """How far it has come, as this process knows it."""
        return self._running().state

    async def __aenter__(self) -> Self:
        if self._work is not None:
            raise Misuse("a transaction runs once; take another from tm.tcc()")
        self._work = await self.company.cast.coordinator.begin(self._key, self._deadline)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        work = self._running()
        work.result = self.result
        await self.company.cast.coordinator.leave(work, error)

    async def call(self, where: Where, /, **payload: Any) -> Any:
        """Try a branch and return what its try returned."""
        calls = [self.company.call(where, payload)]
        return (await self.company.cast.coordinator.call(self._running(), calls))[0]

    async def parallel(self, *calls: tuple[Where, Mapping[str, Any]]) -> list[Any]:
        """Try several branches side by side, started in this order; return what their tries returned."""
        checked = [self.company.call(where, payload) for where, payload in calls]
        return await self.company.cast.coordinator.call(self._running(), checked) if checked else []
