"""The port: what a store of balances must do while it has the turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol, TypeAlias

from .values import Entry, Reading, Receipt, Reply, Row, Status

__all__ = ["Cache", "Step"]

Step: TypeAlias = Literal["begin", "open", "drain", "finish"]


class Cache(Protocol):
    """Balances that many processes change, with a log of the changes that survives its readers.

    Every method may be called again after any failure. All raise `Unavailable` (nothing was done), `OutcomeUnknown`
    (it may have been) and `Misuse` (the store refuses what we ask of it).
    """

    async def change(self, op: str, key: str, delta: int) -> Reply:
        """Change a balance, note the change in the log and the answer under `op`, all at once.

        Words of the answer: `done` and `refused` (recorded, with the balance); `other` (the id belongs to another
        operation), `closed`, `frozen`, `absent`, `full`, `beyond`, `replicas` (nothing was done).
        """
        ...

    async def outcome(self, op: str) -> Reply | None:
        """Return the recorded answer, or None; `seq` is then the key."""
        ...

    async def look(self, key: str) -> tuple[str, Reading | None]:
        """Return the phase, and what is known of a key."""
        ...

    async def status(self) -> Status:
        """Return where the turn stands."""
        ...

    async def step(self, step: Step, fence: int) -> tuple[str, str]:
        """Go to the next phase: `ok`, `stale` (a later fence is there), `busy`, `lost` or `evicts`, and what stands."""
        ...

    async def load(self, fence: int, rows: Sequence[Row]) -> bool:
        """Take balances over; False where the fence is not the one that loads."""
        ...

    async def remember(self, fence: int, receipts: Sequence[Receipt]) -> bool:
        """Take over answers of operations that the database accepted; False as for `load`."""
        ...

    def rows(self) -> AsyncIterator[list[Row]]:
        """Give all balances, in pages; a row may come twice."""
        ...

    async def read(self, consumer: str, count: int) -> list[Entry]:
        """Give `consumer` entries that nobody had yet."""
        ...

    async def held(self, consumer: str, count: int, after: str) -> list[Entry]:
        """Return entries that `consumer` had and has not acknowledged, behind the place `after` ("0" for all)."""
        ...

    async def claim(self, consumer: str, idle: float, count: int) -> list[Entry]:
        """Take entries over that some consumer has had for `idle` seconds without acknowledging them."""
        ...

    async def ack(self, entries: Sequence[Entry]) -> int:
        """Drop entries that are committed in the database; their ids begin to age. Return how many were there."""
        ...

    async def fail(self, entry: Entry, tries: int, reason: str) -> bool:
        """Count a failed try; after `tries` of them park the entry and freeze its key. Return whether it is parked."""
        ...

    async def parked(self) -> list[tuple[Entry, str]]:
        """Return parked entries, and why their key is frozen."""
        ...

    async def retry(self, key: str) -> int:
        """Put parked entries of a key back, in their order, and thaw it; return how many."""
        ...

    async def close(self) -> None:
        """Close idle connections."""
        ...
