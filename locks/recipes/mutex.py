"""The lock as people use it: a context manager that gives the lease, blocking and asyncio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from backstay.blocking import drive
from backstay.errors import Misuse

from ..claims import MUTEX, Claim, Resource
from ..leases.cancellation import Cancellation
from ..leases.handle import AsyncLease, Lease, Site, report
from ..leases.lease import Grant
from ..leases.protocol import LeaseProtocol
from ..options import Terms, checked_name

if TYPE_CHECKING:
    from .multi import AsyncMultiLease, MultiLease

__all__ = ["AsyncBlock", "AsyncMutex", "AsyncSection", "Block", "Mutex", "Reach", "Section"]

Reach = Callable[[], LeaseProtocol]
"""Returns the protocol of this process, or of the running event loop."""

H = TypeVar("H")
L = TypeVar("L", bound="Lease | MultiLease")
A = TypeVar("A", bound="AsyncLease | AsyncMultiLease")


class Block(Generic[L]):
    """What is entered with `with`, or acquired and released by hand.

    First come, first served. The object itself holds nothing: it can be shared by threads and used again, also
    after a loss.

    Leaving the block gives back what it took. If the lease was lost meanwhile, that raises `LockLost`, or, where
    the block has raised already, is added to that error as a note. A store that does not answer at this point is not
    an error of the block: the lock is given back in the background, or else ends with its ttl.
    """

    __slots__ = ("_entered", "_reach", "_terms")

    def __init__(self, reach: Reach, terms: Terms) -> None:
        if terms.cancel_on_loss:
            raise Misuse("cancel_on_loss is for asyncio: a thread cannot be cancelled; call lease.check() in it")
        self._reach, self._terms = reach, terms
        self._entered: list[tuple[int, L]] = []

    def acquire(self) -> L:
        """Acquire the lock within the wait and return its lease, which the caller must release.

        Raises:
            NotAcquired: others held it all the time; nothing is left behind.
            Unavailable: the store was not reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; the caller does not hold the lock, but it may be
                taken until the store answers again or the ttl is over.
        """
        frame = sys._getframe(1)
        return self._take((frame.f_code, frame.f_lineno))

    def _take(self, site: Site) -> L:
        raise NotImplementedError

    def _enter(self, site: Site) -> L:
        """Take what a block runs under."""
        return self._take(site)

    def __enter__(self) -> L:
        frame = sys._getframe(1)
        lease = self._enter((frame.f_code, frame.f_lineno))
        self._entered.append((get_ident(), lease))
        return lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease = left(self._entered, get_ident())
        report(lease._leave(), error, self._terms.raise_on_loss)


class Section(Block[L]):
    """A claim on a resource, on terms."""

    __slots__ = ("_claim", "_lease", "_resource")

    def __init__(
        self,
        reach: Reach,
        resource: Resource,
        claim: Claim,
        terms: Terms,
        lease: Callable[[LeaseProtocol, Grant, Site], L],
    ) -> None:
        super().__init__(reach, terms)
        self._resource, self._claim, self._lease = resource, claim, lease

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._resource.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self._reach().backend.label}>"

    def _take(self, site: Site) -> L:
        protocol, terms = self._reach(), self._terms
        acquiring = protocol.acquire(self._resource, self._claim, terms.ttl, terms.wait, terms.renew, terms.max_hold)
        return self._lease(protocol, drive(acquiring), site)


class AsyncBlock(Generic[A]):
    """What is entered with `async with`, or acquired and released by hand.

    First come, first served. The object itself holds nothing: it can be shared by tasks and used again, also
    after a loss.

    Leaving the block gives back what it took. If the lease was lost meanwhile, that raises `LockLost`, or, where
    the block has raised already, is added to that error as a note. A store that does not answer at this point is not
    an error of the block: the lock is given back in the background, or else ends with its ttl. Cancellation at
    any await leaves nothing behind.
    """

    __slots__ = ("_entered", "_reach", "_terms")

    def __init__(self, reach: Reach, terms: Terms) -> None:
        self._reach, self._terms = reach, terms
        self._entered: list[tuple[int, tuple[A, Cancellation | None]]] = []

    async def acquire(self) -> A:
        """Acquire the lock within the wait and return its lease, which the caller must release.

        Raises:
            NotAcquired: others held it all the time; nothing is left behind.
            Unavailable: the store was not reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; the caller does not hold the lock, but it may be
                taken until the store answers again or the ttl is over.
        """
        frame = sys._getframe(1)
        return await self._take((frame.f_code, frame.f_lineno))

    async def _take(self, site: Site) -> A:
        raise NotImplementedError

    async def _enter(self, site: Site) -> A:
        """Take what a block runs under."""
        return await self._take(site)

    async def __aenter__(self) -> A:
        frame = sys._getframe(1)
        lease = await self._enter((frame.f_code, frame.f_lineno))
        cancellation = Cancellation(lease.lost) if self._terms.cancel_on_loss else None
        self._entered.append((id(asyncio.current_task()), (lease, cancellation)))
        return lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease, cancellation = left(self._entered, id(asyncio.current_task()))
        ours = cancellation is not None and cancellation.ended(error)
        loss = await lease._leave()
        if ours and loss is not None:  # the cancellation was ours and ends here
            raise loss from error
        report(loss, error, self._terms.raise_on_loss)


class AsyncSection(AsyncBlock[A]):
    """A claim on a resource, on terms."""

    __slots__ = ("_claim", "_lease", "_resource")

    def __init__(
        self,
        reach: Reach,
        resource: Resource,
        claim: Claim,
        terms: Terms,
        lease: Callable[[LeaseProtocol, Grant, Site], A],
    ) -> None:
        super().__init__(reach, terms)
        self._resource, self._claim, self._lease = resource, claim, lease

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._resource.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    async def _take(self, site: Site) -> A:
        protocol, terms = self._reach(), self._terms
        grant = await protocol.acquire(self._resource, self._claim, terms.ttl, terms.wait, terms.renew, terms.max_hold)
        return self._lease(protocol, grant, site)


class Mutex(Section[Lease]):
    """A lock that one holder has at a time, over all processes that use the same store and namespace.

    Not reentrant unless it was asked for: a holder that asks again waits for itself. First come, first served. The
    object itself holds nothing: it can be shared by threads and used again, also after a loss.

        with locks.mutex("order:42", ttl=10, wait=5) as lease:
            lease.check()
    """

    __slots__ = ()

    @classmethod
    def named(cls, reach: Reach, name: str, terms: Terms) -> Mutex:
        """Return the lock of that name."""
        return cls(reach, Resource(checked_name(name)), MUTEX, terms, Lease)


class AsyncMutex(AsyncSection[AsyncLease]):
    """A lock that one holder has at a time, over all processes that use the same store and namespace.

    Not reentrant unless it was asked for: a holder that asks again waits for itself. First come, first served. The
    object itself holds nothing: it can be shared by tasks and used again, also after a loss.

        async with locks.mutex("order:42", ttl=10, wait=5) as lease:
            lease.check()
    """

    __slots__ = ()

    @classmethod
    def named(cls, reach: Reach, name: str, terms: Terms) -> AsyncMutex:
        """Return the lock of that name."""
        return cls(reach, Resource(checked_name(name)), MUTEX, terms, AsyncLease)


def asked(protocol: LeaseProtocol, resource: Resource, claim: Claim, terms: Terms) -> Coroutine[Any, Any, Grant]:
    """Return the acquisition of `claim` on these terms, not yet begun."""
    return protocol.acquire(resource, claim, terms.ttl, terms.wait, terms.renew, terms.max_hold)


def left(entered: list[tuple[int, H]], who: int) -> H:
    """Take out what this thread or task entered last.

    Where a block is left by another one than entered it (a test fixture, a generator), the last that is open.
    """
    for place in range(len(entered) - 1, -1, -1):
        if entered[place][0] == who:
            return entered.pop(place)[1]
    return entered.pop()[1]
