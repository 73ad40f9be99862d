"""The journal on SQLite, PostgreSQL, MariaDB and MySQL, for threads and for asyncio.

Its writes and reads are functions over one connection that is inside a transaction, written once for both makes:
the asyncio make runs them by `run_sync`. Their statements are built once, at import.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, text

from backstay.errors import Misuse

from ..journal import BranchRecord, BranchUpdate, Lease, TransactionRecord
from ..tcc.states import Event, State
from . import deciding, leases, orphans, reading, settling
from .database import Database
from .schema import migrate

__all__ = ["SqlJournal"]


def _promise(connection: Connection) -> None:
    """Refuse a database that may forget a decision it has confirmed."""
    if connection.dialect.name == "postgresql":
        if connection.scalar(text("SHOW synchronous_commit")) == "off":
            raise Misuse("the journal needs synchronous_commit = on: PostgreSQL would forget decisions in a crash")
    elif connection.dialect.name in ("mysql", "mariadb"):
        flush = connection.scalar(text("SELECT @@innodb_flush_log_at_trx_commit"))
        if int(flush) != 1:
            raise Misuse(f"the journal needs innodb_flush_log_at_trx_commit = 1, the server has {flush}")


class SqlJournal:
    """The port `Journal` over one database; see there for what each method promises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self) -> None:
        await self._database.read(_promise)
        await self._database.write(migrate)

    async def join(self, owner: str, epoch: int, ttl: float) -> Lease:
        return await self._database.write(lambda connection: leases.join(connection, owner, epoch, ttl))

    async def time(self) -> float:
        return await self._database.read(reading.time)

    async def renew(self, lease: Lease, ttl: float) -> bool:
        return await self._database.write(lambda connection: leases.renew(connection, lease, ttl))

    async def leave(self, lease: Lease) -> None:
        await self._database.write(lambda connection: leases.leave(connection, lease))

    async def find(self, key: str) -> TransactionRecord | None:
        return await self._database.read(lambda connection: reading.find(connection, key))

    async def read(self, gtrid: str) -> TransactionRecord | None:
        return await self._database.read(lambda connection: reading.read(connection, gtrid))

    async def open(
        self, lease: Lease, gtrid: str, key: str | None, deadline: float, branches: Sequence[BranchRecord]
    ) -> bool:
        return await self._database.write(
            lambda connection: deciding.open_transaction(connection, lease, gtrid, key, deadline, branches)
        )

    async def enlist(
        self, lease: Lease, gtrid: str, branches: Sequence[BranchRecord], tried: Sequence[BranchUpdate]
    ) -> bool:
        return await self._database.write(lambda connection: deciding.enlist(connection, lease, gtrid, branches, tried))

    async def decide(
        self,
        lease: Lease,
        gtrid: str,
        event: Event,
        *,
        tried: Sequence[BranchUpdate] = (),
        reason: str = "",
        refused: bool = False,
        result: str | None = None,
    ) -> State | None:
        return await self._database.write(
            lambda connection: deciding.decide(connection, lease, gtrid, event, tried, reason, refused, result)
        )

    async def settle(self, gtrid: str, updates: Sequence[BranchUpdate], delay: float) -> State | None:
        return await self._database.write(lambda connection: settling.settle(connection, gtrid, updates, delay))

    async def take_over(self, lease: Lease, grace: float, limit: int) -> list[str]:
        if not await self._database.read(lambda connection: orphans.neglected(connection, grace)):
            return []
        return await self._database.write(lambda connection: orphans.take_over(connection, lease, grace, limit))

    async def fence(self, lease: Lease) -> int:
        return await self._database.write(lambda connection: leases.fence(connection, lease))

    async def due(self, lease: Lease, active: Collection[str], limit: int) -> list[TransactionRecord]:
        return await self._database.read(lambda connection: reading.due(connection, lease, active, limit))

    async def unfinished(self, limit: int) -> list[TransactionRecord]:
        return await self._database.read(lambda connection: reading.unfinished(connection, limit))

    async def recent(self, limit: int) -> list[TransactionRecord]:
        return await self._database.read(lambda connection: reading.recent(connection, limit))

    async def retry(self, gtrid: str | None, branch: str | None) -> int:
        return await self._database.write(lambda connection: settling.retry(connection, gtrid, branch))

    async def ended(self, gtrids: Sequence[str], safety: float) -> list[str]:
        return await self._database.read(lambda connection: reading.ended(connection, gtrids, safety))

    async def purge(self, age: float, limit: int) -> int:
        return await self._database.write(lambda connection: settling.purge(connection, age, limit))

    async def close(self) -> None:
        await self._database.close()
