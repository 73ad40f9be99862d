"""The faces: `WriteBehind` for threads, `AsyncWriteBehind` for event loops."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime, drive
from backstay.errors import Misuse
from backstay.url import require

from .connect import connect
from .database import at_once, beside_the_loop
from .settings import Settings
from .values import Balances, Entry, Reading, Receipt, Status, check_text

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from .consumer import Consumer
    from .protocol import Protocol

__all__ = ["AsyncWriteBehind", "WriteBehind"]


class _Both:
    """What both faces are made of."""

    _core: Protocol

    def __init__(
        self, name: str, cache: object, database: str | Engine, balances: Balances, settings: Settings, *, loop: bool
    ) -> None:
        check_text("name of the write-behind", name, 100)
        given: Any = balances
        if not isinstance(given, Balances):
            raise Misuse(f"balances must be Balances(table=..., key=..., balance=...), got {balances!r:.80}")
        require("sqlalchemy", "sql")
        from .ledger import Ledger
        from .protocol import Protocol

        ledger = Ledger(name, database, balances)
        store = connect(name, cache, settings, asynchronous=loop)
        if loop:
            self._core = Protocol(name, store, ledger, beside_the_loop, settings, AsyncioRuntime())
        else:
            self._core = Protocol(name, store, ledger, at_once, settings, BlockingRuntime())
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class WriteBehind(_Both):
    """Balances that a database owns and a cache can stand in for, without losing or doubling an operation.

        stock = WriteBehind.connect(
            "stock", cache="redis://localhost", database="postgresql+psycopg://...",
            balances=Balances(table="stock", key="sku", balance="on_hand"),
        )
        stock.create_tables()                       # once
        stock.deduct("order-7/1", "sku-1", 2)       # in the database, or in the cache while it has the turn
        stock.enter()                               # the cache takes over; consumers bring operations to the database
        stock.leave(timeout=60)                     # back, once both are equal

    What is guaranteed: while the cache has the turn, an operation is one script: never below zero, each id once, with
    a log that the database follows with effect exactly once. The turn goes back only where every balance is equal.
    What is not: that an operation which only the cache has survives the loss of the cache. How durable that is, is the
    cache's: see the page of write-behind for `appendfsync` and `replicas=`. While the cache has the turn nobody else
    may write the balances.

    Source: WD-1 to WD-7.
    """

    @classmethod
    def connect(
        cls,
        name: str,
        *,
        cache: object,
        database: str | Engine,
        balances: Balances,
        settings: Settings = Settings(),  # noqa: B008  frozen
    ) -> WriteBehind:
        """Return a write-behind on a cache and a database; nothing is asked yet.

        Args:
            name: of these balances; the same in every process.
            cache: `memory://`, `sqlite:///file`, `redis://...` (also Sentinel and Cluster), or a client of redis-py.
            database: a URL of SQLAlchemy, or an `Engine`.
            balances: the table that holds them.
            settings: see `Settings`.

        Raises:
            Misuse: one of them cannot be used.
            MissingExtra: SQLAlchemy or redis-py is not installed.
        """
        return cls(name, cache, database, balances, settings, loop=False)

    def create_tables(self) -> None:
        """Create the three tables that stand beside yours; call it once, again does no harm.

        Raises:
            Unavailable: the database does not answer.
        """
        self._core.ledger.create_tables()

    def deduct(self, op: str, key: str, amount: int) -> Receipt:
        """Take `amount` from a balance, once for each `op`.

        Args:
            op: the operation's own id, such as `order-7/line-1`; repeat a call with the same id after any failure.
            key: whose balance.
            amount: whole number from 1 to 10^15.

        Raises:
            Insufficient: there is less; recorded where the cache has the turn: the same id gets the same answer.
            NoSuchBalance: the key has none.
            Degraded: the turn changes hands, the key is frozen, too many operations wait, or replicas are missing.
            Unavailable: nothing was done.
            OutcomeUnknown: it may be done; call again with the same id.
            Misuse: bad input, or the id of another operation.
        """
        return drive(self._core.deduct(op, key, amount))

    def give_back(self, op: str, key: str, amount: int) -> Receipt:
        """Add `amount` to a balance, once for each `op`; an id of its own, not that of the deduction.

        Raises:
            Rejected: the balance would be above 10^15.
            NoSuchBalance, Degraded, Unavailable, OutcomeUnknown, Misuse: as for `deduct`.
        """
        return drive(self._core.give_back(op, key, amount))

    def balance(self, key: str) -> Reading:
        """Return a balance from who has the turn, so that one's own operations are always seen.

        Raises:
            NoSuchBalance, Unavailable: as for `deduct`.
            Mismatched: the cache has the turn and lost its data.
        """
        return drive(self._core.balance(key))

    def outcome(self, op: str) -> Receipt | None:
        """Return what `op` did, or None where nothing is known of it *now*: a request may still be on its way.

        To be sure after `OutcomeUnknown`, repeat the operation with the same id: that decides it.
        """
        return drive(self._core.outcome(op))

    def status(self) -> Status:
        """Return where the cache stands, and how far the database is behind."""
        return drive(self._core.status())

    def enter(self) -> int:
        """Give the turn to the cache: stop writes in the database, load its balances, open; return the fence.

        Call it again after any failure, from any process.

        Raises:
            Degraded: another one enters or leaves.
            Mismatched: the cache holds operations of an earlier turn, or has lost those of this one.
            Unavailable, OutcomeUnknown: somebody did not answer; call again.
            Misuse: a balance or key cannot be used, tables are missing, or Redis may evict.
        """
        return drive(self._core.enter())

    def leave(self, timeout: float = 60.0) -> None:
        """Give the turn back: close the cache, wait for the database to follow, compare every balance.

        Call it again after any failure, from any process. Until it has succeeded the cache stays closed and nothing
        is accepted.

        Args:
            timeout: seconds to wait for consumers.

        Raises:
            Degraded: the database is still behind.
            Mismatched: operations are parked, or balances differ; the turn stays where it is.
            Unavailable, OutcomeUnknown: somebody did not answer; call again.
        """
        drive(self._core.leave(timeout))

    def abandon(self) -> None:
        """Give the turn to the database although the cache's data is lost, and with it what only the cache had.

        Raises:
            Misuse: the cache still has its data: `leave` loses nothing.
            Unavailable: cache or database does not answer.
        """
        drive(self._core.abandon())

    def parked(self) -> list[tuple[Entry, str]]:
        """Return operations that the database refuses, and why."""
        return drive(self._core.cache.parked())

    def retry(self, key: str) -> int:
        """Put a key's parked operations back in their order and thaw it; return how many there were."""
        return drive(self._core.cache.retry(check_text("key", key)))

    def forget(self) -> int:
        """Drop the ids of operations of earlier turns from the database; return how many.

        Repeated after that, such an operation is done again: call it when no caller repeats for that long.
        """
        return self._core.ledger.forget()

    def consumer(
        self,
        *,
        name: str | None = None,
        batch: int = 200,
        claim_after: float = 30.0,
        tries: int = 5,
        poll: float = 0.05,
    ) -> Consumer:
        """Return a worker that brings operations to the database; see `Consumer`."""
        from .consumer import Consumer

        return Consumer(
            self._core.cache, self._core.ledger, name=name, batch=batch, claim_after=claim_after, tries=tries, poll=poll
        )

    def close(self) -> None:
        """Close idle connections; those of an engine that was handed over stay."""
        drive(self._core.cache.close())
        self._core.ledger.close()

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncWriteBehind(_Both):
    """The asyncio twin of `WriteBehind`: the same turn, the same answers; SQL runs in threads beside the loop.

    Consumers are blocking workers: take them from a `WriteBehind`, in a thread or a process of their own.
    """

    @classmethod
    def connect(
        cls,
        name: str,
        *,
        cache: object,
        database: str | Engine,
        balances: Balances,
        settings: Settings = Settings(),  # noqa: B008  frozen
    ) -> AsyncWriteBehind:
        """Return a write-behind on a cache and a database; see `WriteBehind.connect`."""
        return cls(name, cache, database, balances, settings, loop=True)

    async def deduct(self, op: str, key: str, amount: int) -> Receipt:
        """Take `amount` from a balance, once for each `op`; see `WriteBehind.deduct`."""
        return await self._core.deduct(op, key, amount)

    async def give_back(self, op: str, key: str, amount: int) -> Receipt:
        """Add `amount` to a balance, once for each `op`; see `WriteBehind.give_back`."""
        return await self._core.give_back(op, key, amount)

    async def balance(self, key: str) -> Reading:
        """Return a balance from who has the turn; see `WriteBehind.balance`."""
        return await self._core.balance(key)

    async def outcome(self, op: str) -> Receipt | None:
        """Return what `op` did, or None; see `WriteBehind.outcome`."""
        return await self._core.outcome(op)

    async def status(self) -> Status:
        """Return where the cache stands, and how far the database is behind."""
        return await self._core.status()

    async def enter(self) -> int:
        """Give the turn to the cache; see `WriteBehind.enter`."""
        return await self._core.enter()

    async def leave(self, timeout: float = 60.0) -> None:
        """Give the turn back to the database; see `WriteBehind.leave`."""
        await self._core.leave(timeout)

    async def aclose(self) -> None:
        """Close the running loop's idle connections, and the database's."""
        await self._core.cache.close()
        self._core.ledger.close()

    async def __aenter__(self) -> AsyncWriteBehind:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
