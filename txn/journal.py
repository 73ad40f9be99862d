"""The journal port: the durable memory of a coordinator, and the one place where transactions are decided.

Theory of operation. A coordinator is a process with a *lease*: a row (owner, epoch) that it renews by the
database's clock. Every transaction is owned by one lease. A write that moves a transaction names the lease in
its WHERE clause, so the loser of any race changes nothing and then reads who won. A process whose lease ran
out is *fenced* by whoever finds that first: its row is removed and its unfinished transactions are given to
the finder in one database transaction. However long it was paused, its next decision then matches no row.

Leases are for liveness only: safety comes from the conditional updates, and would hold with any lease time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from .tcc.states import BranchEvent, BranchState, Event, State
from .values import Target

__all__ = ["BranchRecord", "BranchUpdate", "Journal", "Lease", "TransactionRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A coordinator's licence to decide: `owner` is host-pid-nonce, `epoch` counts its leases."""

    owner: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchRecord:
    """One branch as the journal knows it."""

    id: str
    position: int
    target: Target
    payload: str
    state: BranchState = BranchState.LOGGED
    attempts: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionRecord:
    """One transaction as the journal knows it; times are seconds, by the database's clock at the reading.

    `age` counts from the first branch, `ended_for` from the end. `due_in` is the wait until the next pass over
    its branches, negative where it is overdue.
    """

    gtrid: str
    key: str | None
    state: State
    lease: Lease
    lease_alive: bool
    age: float
    deadline_in: float
    due_in: float
    ended_for: float | None
    reason: str
    refused: bool
    result: str | None
    branches: tuple[BranchRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchUpdate:
    """What one request to one branch came to. `event` is None for a failed attempt that leaves the state alone."""

    id: str
    event: BranchEvent | None
    error: str | None = None


class Journal(Protocol):
    """What a journal must do. Every method is one database transaction: it happens as a whole or not at all.

    Raises, from every method:
        JournalUnanswered: a write may or may not have happened.
        Unavailable: a read was not answered; or a write certainly did not happen.
    """

    async def prepare(self) -> None:
        """Create or migrate the tables and check that the database can keep a promise."""
        ...

    async def join(self, owner: str, epoch: int, ttl: float) -> Lease:
        """Take a lease of `ttl` seconds with an epoch of at least `epoch`, above any that `owner` had."""
        ...

    async def time(self) -> float:
        """Return the database's time, in seconds since 1970."""
        ...

    async def renew(self, lease: Lease, ttl: float) -> bool:
        """Extend the lease; False means that it was fenced and decides nothing any more."""
        ...

    async def leave(self, lease: Lease) -> None:
        """Give the lease back, so that others may take over what is unfinished at once."""
        ...

    async def find(self, key: str) -> TransactionRecord | None:
        """Return the transaction with this idempotency key, without its branches."""
        ...

    async def read(self, gtrid: str) -> TransactionRecord | None:
        """Return a transaction with its branches."""
        ...

    async def open(
        self, lease: Lease, gtrid: str, key: str | None, deadline: float, branches: Sequence[BranchRecord]
    ) -> bool:
        """T1 and the first T2: log a transaction with its first branches, before any try is sent.

        False means that nothing was written, because the key is taken or the lease is fenced.
        """
        ...

    async def enlist(
        self, lease: Lease, gtrid: str, branches: Sequence[BranchRecord], tried: Sequence[BranchUpdate]
    ) -> bool:
        """T2 (and T4 of earlier branches): log more branches; False when the transaction is decided or taken."""
        ...

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
        """T5: decide once, if this lease still owns it; return the state that holds now, None if there is no record.

        CONFIRM also asks that the deadline has not passed. Repeating the call is harmless: the first
        decision stays and is returned.
        """
        ...

    async def settle(self, gtrid: str, updates: Sequence[BranchUpdate], delay: float) -> State | None:
        """T7 and T8: record what a pass came to, end the transaction if nothing is left, else wait `delay` seconds.

        Needs no lease: an acknowledgement is true whoever brings it.
        """
        ...

    async def take_over(self, lease: Lease, grace: float, limit: int) -> list[str]:
        """Take what nobody will finish: return the transactions that `lease` owns from now on.

        Fences leases that ran out. Of the transactions they owned, and of those that are TRYING `grace`
        seconds after their deadline whoever owns them, the undecided are decided CANCEL in the same database
        transaction.
        """
        ...

    async def fence(self, lease: Lease) -> int:
        """Fence every other lease, living ones too; safe at any time, but it cancels what others have undecided."""
        ...

    async def due(self, lease: Lease, active: Collection[str], limit: int) -> list[TransactionRecord]:
        """Return own transactions that wait for work and are not in `active`, with branches, the oldest first.

        These are decided ones whose next pass is due, and ones still TRYING: nobody runs their block any more.
        """
        ...

    async def unfinished(self, limit: int) -> list[TransactionRecord]:
        """Return transactions that are not ended, with branches, the oldest first."""
        ...

    async def recent(self, limit: int) -> list[TransactionRecord]:
        """Return transactions of any state, without branches, the newest first."""
        ...

    async def retry(self, gtrid: str | None, branch: str | None) -> int:
        """Make decided transactions due at once and bring DEAD branches back; return how many transactions."""
        ...

    async def ended(self, gtrids: Sequence[str], safety: float) -> list[str]:
        """Return those of `gtrids` that ended more than `safety` seconds ago; unknown ones are not among them."""
        ...

    async def purge(self, age: float, limit: int) -> int:
        """Remove transactions that ended more than `age` seconds ago; return how many. Their keys are forgotten."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
