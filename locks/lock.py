"""The mutex as people use it: a context manager that gives the lease, blocking and asyncio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import TypeVar

from backstay.blocking import drive

from .claims import MUTEX, Resource
from .errors import LockLost
from .handle import AsyncLease, Held, Lease
from .options import Terms
from .protocol import LeaseProtocol

__all__ = ["AsyncMutex", "Mutex"]

H = TypeVar("H", bound=Held)


class Mutex:
    """A lock that one holder has at a time, over all processes that use the same store and namespace.

    Not reentrant: a holder that asks again waits for itself. First come, first served. The object itself holds
    nothing: it can be shared by threads and used again, also after a loss.

        with locks.mutex("order:42", ttl=10, wait=5) as lease:
            lease.check()

    Leaving the block gives the lock back. If the lease was lost meanwhile, that raises `LockLost`, or, where the
    block has raised already, is added to that error as a note. A store that does not answer at this point is not
    an error of the block: the lock is given back in the background, or else ends with its ttl.
    """

    __slots__ = ("_entered", "_protocol", "_resource", "_terms")

    def __init__(self, protocol: LeaseProtocol, name: str, terms: Terms) -> None:
        self._protocol, self._terms, self._resource = protocol, terms, Resource(name)
        self._entered: list[tuple[int, Lease]] = []

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._resource.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self._protocol.backend.label}>"

    def acquire(self) -> Lease:
        """Acquire the lock within the wait and return its lease, which the caller must release.

        Raises:
            NotAcquired: others held it all the time; nothing is left behind.
            Unavailable: the store was not reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; the caller does not hold the lock, but it may be
                taken until the store answers again or the ttl is over.
        """
        terms, frame = self._terms, sys._getframe(1)
        grant = drive(self._protocol.acquire(self._resource, MUTEX, terms.ttl, terms.wait, terms.renew))
        return Lease(self._protocol, grant, (frame.f_code, frame.f_lineno))

    def __enter__(self) -> Lease:
        terms, frame = self._terms, sys._getframe(1)
        grant = drive(self._protocol.acquire(self._resource, MUTEX, terms.ttl, terms.wait, terms.renew))
        lease = Lease(self._protocol, grant, (frame.f_code, frame.f_lineno))
        self._entered.append((get_ident(), lease))
        return lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease = _leave(self._entered, get_ident())
        _report(drive(self._protocol.leave(lease._grant)), error, self._terms)


class AsyncMutex:
    """A lock that one holder has at a time, over all processes that use the same store and namespace.

    Not reentrant: a holder that asks again waits for itself. First come, first served. The object itself holds
    nothing: it can be shared by tasks and used again, also after a loss.

        async with locks.mutex("order:42", ttl=10, wait=5) as lease:
            lease.check()

    Leaving the block gives the lock back. If the lease was lost meanwhile, that raises `LockLost`, or, where the
    block has raised already, is added to that error as a note. A store that does not answer at this point is not
    an error of the block: the lock is given back in the background, or else ends with its ttl. Cancellation at
    any await leaves nothing behind.
    """

    __slots__ = ("_entered", "_protocol", "_resource", "_terms")

    def __init__(self, protocol: Callable[[], LeaseProtocol], name: str, terms: Terms) -> None:
        self._protocol, self._terms, self._resource = protocol, terms, Resource(name)
        self._entered: list[tuple[int, AsyncLease]] = []

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._resource.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    async def acquire(self) -> AsyncLease:
        """Acquire the lock within the wait and return its lease, which the caller must release.

        Raises:
            NotAcquired: others held it all the time; nothing is left behind.
            Unavailable: the store was not reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; the caller does not hold the lock, but it may be
                taken until the store answers again or the ttl is over.
        """
        terms, frame, protocol = self._terms, sys._getframe(1), self._protocol()
        grant = await protocol.acquire(self._resource, MUTEX, terms.ttl, terms.wait, terms.renew)
        return AsyncLease(protocol, grant, (frame.f_code, frame.f_lineno))

    async def __aenter__(self) -> AsyncLease:
        terms, frame, protocol = self._terms, sys._getframe(1), self._protocol()
        grant = await protocol.acquire(self._resource, MUTEX, terms.ttl, terms.wait, terms.renew)
        lease = AsyncLease(protocol, grant, (frame.f_code, frame.f_lineno))
        self._entered.append((id(asyncio.current_task()), lease))
        return lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease = _leave(self._entered, id(asyncio.current_task()))
        _report(await lease._protocol.leave(lease._grant), error, self._terms)


def _leave(entered: list[tuple[int, H]], who: int) -> H:
    """Take out what this thread or task entered last.

    Where a block is left by another one than entered it (a test fixture, a generator), the last that is open.
    """
    for place in range(len(entered) - 1, -1, -1):
        if entered[place][0] == who:
            return entered.pop(place)[1]
    return entered.pop()[1]


def _report(loss: LockLost | None, error: BaseException | None, terms: Terms) -> None:
    """End a block whose lease was lost (C6): the block's own error goes first."""
    if loss is None:
        return
    if error is not None:
        error.add_note(f"and meanwhile: {loss}")
    elif terms.raise_on_loss:
        raise loss
