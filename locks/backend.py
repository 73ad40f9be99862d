"""The port between the protocol and a store: what a backend of locks must do, in either make.

A method that takes a `timeout` is one exchange with the store, bounded by it, and safe to send again: tokens are
used once, so a copy that arrives late finds either its own work done or somebody else's token. A method ends
as *done* (it returns), *not done* (`Unavailable`: nothing reached the store) or *unknown* (`OutcomeUnknown`:
it was sent and not answered). No other error may leave a backend but `Misuse`.

In the blocking make the methods block and never suspend; in the asyncio make they await.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from .claims import Claim, Resource, Unit
from .documents import Documents

__all__ = ["ALIVE", "TOMBSTONE", "Backend", "Busy", "Freed", "Holding", "Kept", "Letter", "Note", "Queued", "Renewal",
           "Survey", "Watcher"]  # fmt: skip

ALIVE = 5.0
"""Seconds for which a waiter counts as alive after it was last heard of."""

TOMBSTONE = 60.0
"""Seconds for which a given-up token is refused: longer than any request stays on its way."""


class Busy(NamedTuple):
    """There is no room for the claim: others hold it, or came before and wait."""

    left: float | None
    """Seconds until the first holder's lease ends unless renewed; None where it has no end that we can know."""
    server_time: float
    """The store's clock, seconds; only differences mean anything."""
    waiters: int
    """How many wait, the caller included if it queued."""
    owner: str
    """The token of a holder; empty where the claim waits behind others who wait."""


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

    resource: Resource
    token: str
    fence: int
    ttl: float


class Holding(NamedTuple):
    """One who holds, as operators see it."""

    token: str
    units: tuple[Unit, ...]
    fence: int
    age: float
    """Seconds since the grant."""
    left: float | None
    """Seconds until it ends unless renewed; None where it lives with a session."""


class Queued(NamedTuple):
    """One who waits."""

    token: str
    units: tuple[Unit, ...]


class Survey(NamedTuple):
    """A resource at one moment, in order of arrival."""

    size: int
    holders: list[Holding]
    waiters: list[Queued]


class Watcher(Protocol):
    """Whoever must know what becomes of a store's session; it returns at once.

    It is called from the store's own thread in the blocking make, and from the event loop in the asyncio make.
    """

    def doubted(self) -> None:
        """The session is cut off: what it holds must not be relied on until it is settled."""
        ...

    def settled(self) -> None:
        """The session goes on: each lease must be verified before it counts again."""
        ...

    def ended(self) -> None:
        """The session is over and everything that it held with it."""
        ...


class Backend(Protocol):
    """A store of locks, in one of two makes.

    `SizeDiffers`, a `Misuse`, leaves `take` where the store has the resource with another size than the claim says.
    """

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

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of resources that this store carries."""
        ...

    @property
    def session(self) -> float | None:
        """Seconds that the store keeps a silent session, where grants live with it; None where each has its own ttl."""
        ...

    @property
    def documents(self) -> Documents | None:
        """The documents of this store, for latches, barriers and elections; None where it has none."""
        ...

    def attend(self, watcher: Watcher) -> None:
        """Tell `watcher` what becomes of the session; stores without one never call it."""
        ...

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
        """Take what is claimed or, with an address, join the queue; return the fence of the grant, or why not.

        If `token` has the grant already this returns the same fence and starts the time-to-live anew (R5).
        """
        ...

    async def release(self, resource: Resource, token: str, fence: int, timeout: float) -> Freed:
        """End this grant, if it stands, and hand what came free to those who wait, in one step."""
        ...

    async def lessen(self, resource: Resource, token: str, fence: int, claim: Claim, timeout: float) -> Freed:
        """Go on with `claim`, which is less than what is held, without a gap; the rest goes to those who wait.

        Returns:
            `FREED`, or `NOT_OWNER` where the grant does not stand any more.
        """
        ...

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        """Start the time-to-live of each lease anew; one answer for each, in order."""
        ...

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        """Give a token up: leave the queue, free what it was granted; afterwards it can never be granted anything.

        `in_flight` says that a `take` of it may still be on its way and must be refused when it arrives.
        """
        ...

    async def evict(self, resource: Resource, token: str, timeout: float) -> None:
        """End the grant, or the waiting, of anybody's token by an operator's word; its late requests are refused.

        Raises:
            Misuse: only its own session can end a grant of this store.
        """
        ...

    async def resize(self, resource: Resource, size: int, drain: bool, timeout: float) -> int:
        """Set the size of a resource and return what it was, 0 where it had none.

        Nobody loses what they hold. More room goes to those who wait. With `drain` nothing is granted until all who
        held at the old size are gone, and those who wait are asked to look again, since the units changed meaning.
        """
        ...

    async def inspect(self, resource: Resource, timeout: float) -> Survey:
        """Return who holds a resource and who waits for it."""
        ...

    async def resources(self, limit: int, timeout: float) -> list[Resource]:
        """Return up to `limit` resources of this namespace that are held or waited for, without halting the store."""
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
