"""The port between the protocol and a store: what a backend of locks must do, in either make.

Every method is one exchange with the store, bounded by `timeout` seconds, and safe to send again: tokens are
used once, so a copy that arrives late finds either its own work done or somebody else's token. A method ends
as *done* (it returns), *not done* (`Unavailable`: nothing reached the store) or *unknown* (`OutcomeUnknown`:
it was sent and not answered). No other error may leave a backend but `Misuse`.

In the blocking make the methods block and never suspend; in the asyncio make they await.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

__all__ = ["ALIVE", "TOMBSTONE", "Backend", "Busy", "Freed", "Kept", "Letter", "Note", "Renewal"]

ALIVE = 5.0
"""Seconds for which a waiter counts as alive after it was last heard of."""

TOMBSTONE = 60.0
"""Seconds for which a given-up token is refused: longer than any request stays on its way."""


class Busy(NamedTuple):
    """The lock is held by somebody else."""

    left: float | None
    """Seconds until the holder's lease ends unless renewed; None where it has no end that we can know."""
    server_time: float
    """The store's clock, seconds; only differences mean anything."""
    waiters: int
    """How many wait, the caller included if it queued."""
    owner: str
    """The holder's token."""


class Note(NamedTuple):
    """A lock was handed over to a waiter."""

    fence: int
    server_time: float
    """The store's clock at the grant, seconds."""


class Freed(Enum):
    """How a release ended."""

    FREED = "freed"
    NOT_OWNER = "not owner"
    """Another owns the lock, or nobody does, and this was the only copy of the request."""
    PERHAPS_EARLIER = "perhaps earlier"
    """As before, but an earlier copy of this request was sent and may have been what freed it (R4)."""


class Kept(Enum):
    """How one renewal ended."""

    RENEWED = "renewed"
    NOT_OWNER = "not owner"
    NO_EXPIRY = "no expiry"
    """Somebody took the expiry away; the lease cannot be promised any longer."""
    FAILED = "failed"
    """The store answered this one with an error."""


class Letter(Protocol):
    """A waiter's place in the mailbox, made before it queues so that no note is missed."""

    @property
    def address(self) -> str:
        """Where the store sends notes now; another one after a reconnection, empty while there is none."""
        ...

    async def wait(self, timeout: float) -> Note | None:
        """Wait for the note; None when the time is up or the waiter should look again."""
        ...

    def close(self) -> None:
        """Give the place up; a note that comes later is ignored."""
        ...


class Renewal(NamedTuple):
    """A lease to be renewed, and for how long."""

    name: str
    token: str
    fence: int
    ttl: float


class Backend(Protocol):
    """A store of locks, in one of two makes."""

    @property
    def kind(self) -> str:
        """What telemetry calls it: `memory`, `redis`."""
        ...

    @property
    def label(self) -> str:
        """What errors call it, with secrets masked."""
        ...

    @property
    def patience(self) -> float:
        """Seconds that a single exchange may take where the caller has more time than that."""
        ...

    async def take(self, name: str, token: str, ttl: float, address: str, timeout: float) -> int | Busy:
        """Take the lock or, with an address, join its queue; return the fence of the grant, or why not.

        If `token` owns the lock already this returns the same fence and starts the time-to-live anew (R5).
        """
        ...

    async def release(self, name: str, token: str, fence: int, timeout: float) -> Freed:
        """Free the lock if it is this grant's, and hand it to the first live waiter, in one step."""
        ...

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        """Start the time-to-live of each lease anew; one answer for each, in order."""
        ...

    async def withdraw(self, name: str, token: str, in_flight: bool, timeout: float) -> None:
        """Give a token up: leave the queue, free what it was granted; afterwards it can never own the lock.

        `in_flight` says that a `take` of it may still be on its way and must be refused when it arrives.
        """
        ...

    def letter(self, token: str) -> Letter | None:
        """Return a place in the mailbox, or None where the mailbox was not opened yet."""
        ...

    async def open(self, timeout: float) -> None:
        """Open the mailbox and wait until the store has confirmed it (W1); `Unavailable` where it did not."""
        ...

    async def close(self) -> None:
        """Drop all connections; waiting letters return None at once."""
        ...

    def forked(self) -> None:
        """Forget everything that belongs to the parent process."""
        ...
