"""So many at a time: the semaphore, blocking and asyncio.

A permit is an entry with an owner and an end by the store's clock, never a counter: who dies gives its permits back by
dying (S1). How many there are is known to the store; a caller that says another number is refused (`SizeDiffers`).
"""

from __future__ import annotations

import sys

from backstay.blocking import drive
from backstay.errors import Misuse

from ..claims import Resource, permits
from ..leases.handle import AsyncLease, Lease, Site
from ..leases.protocol import LeaseProtocol
from ..options import Terms, checked_name, checked_size
from .mutex import AsyncSection, Reach, Section

__all__ = ["MOST", "AsyncPermits", "AsyncSemaphore", "Permits", "Semaphore"]

KIND = "semaphore"

MOST = 1_000_000
"""Permits that a semaphore has at most; each acquisition is one entry at the store, however many it takes."""


class Permits(Lease):
    """A lease of some permits of a semaphore; they are renewed, lost and given back together."""

    __slots__ = ()

    @property
    def permits(self) -> int:
        """How many are held."""
        return self._grant.claim.units[0].weight

    def give_back(self, count: int = 1) -> None:
        """Give some permits back and keep the rest.

        Raises:
            Misuse: `count` is not below what is held; `release()` gives all back.
            LockLost: the lease has ended.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        rest = _rest(self.permits, count)
        drive(self._protocol.lessen(self._grant, permits(rest, self._grant.claim.size)))


class AsyncPermits(AsyncLease):
    """A lease of some permits of a semaphore; they are renewed, lost and given back together."""

    __slots__ = ()

    @property
    def permits(self) -> int:
        """How many are held."""
        return self._grant.claim.units[0].weight

    async def give_back(self, count: int = 1) -> None:
        """Give some permits back and keep the rest.

        Raises:
            Misuse: `count` is not below what is held; `release()` gives all back.
            LockLost: the lease has ended.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        rest = _rest(self.permits, count)
        await self._protocol.lessen(self._grant, permits(rest, self._grant.claim.size))


def _rest(held: int, count: int) -> int:
    if held == 1:
        raise Misuse("the lease is of one permit: release() gives it back")
    return held - checked_size(count, "the permits to give back (release() gives back all)", held - 1)


class PermitSection(Section[Permits]):
    """Some permits of a semaphore at once, all or nothing (S2)."""

    __slots__ = ("_count", "_size")

    def __init__(self, reach: Reach, resource: Resource, count: int, size: int | None, terms: Terms) -> None:
        super().__init__(reach, resource, permits(_count(resource, count, size), size or 0), terms, Permits)
        self._count, self._size = count, size

    def _resized(self, size: int) -> None:
        if self._size is not None:
            self._size, self._claim = size, permits(self._count, size)

    def _take(self, site: Site) -> Permits:
        if self._size is None:
            _fits(self._resource, self._count, drive(size_of(self._reach(), self._resource)))
        return super()._take(site)


class AsyncPermitSection(AsyncSection[AsyncPermits]):
    """Some permits of a semaphore at once, all or nothing (S2)."""

    __slots__ = ("_count", "_size")

    def __init__(self, reach: Reach, resource: Resource, count: int, size: int | None, terms: Terms) -> None:
        super().__init__(reach, resource, permits(_count(resource, count, size), size or 0), terms, AsyncPermits)
        self._count, self._size = count, size

    def _resized(self, size: int) -> None:
        if self._size is not None:
            self._size, self._claim = size, permits(self._count, size)

    async def _take(self, site: Site) -> AsyncPermits:
        if self._size is None:
            _fits(self._resource, self._count, await size_of(self._reach(), self._resource))
        return await super()._take(site)


def _count(resource: Resource, count: int, size: int | None) -> int:
    count = checked_size(count, "permits to acquire", MOST)
    if size is not None:
        _fits(resource, count, size)
    return count


def _fits(resource: Resource, count: int, size: int) -> None:
    if not size:
        raise Misuse(f"{resource} is not known to the store yet: say how many permits it has, permits=4")
    if count > size:
        raise Misuse(f"{resource} has {size} permits, so {count} at once can never be had; ask for fewer or resize()")


async def size_of(protocol: LeaseProtocol, resource: Resource) -> int:
    """Return the size of a resource as the store has it, 0 where it has none."""
    return (await protocol.backend.inspect(resource, protocol.backend.patience)).size


async def free_in(protocol: LeaseProtocol, resource: Resource) -> int:
    """Return how many permits nobody holds at this moment; never below 0, though a shrunk semaphore may owe some."""
    survey = await protocol.backend.inspect(resource, protocol.backend.patience)
    return max(0, survey.size - sum(unit.weight for holder in survey.holders for unit in holder.units))


class Semaphore(PermitSection):
    """A lock that a number of holders have at a time.

        gpus = locks.semaphore("gpu", permits=4)
        with gpus: ...                      # one permit
        with gpus.several(2) as lease: ...  # two at once, or none
        lease = gpus.acquire(3)

    First come, first served, whatever the numbers: who asks for many is not overtaken by those who ask for few.
    """

    __slots__ = ()

    @classmethod
    def named(cls, reach: Reach, name: str, size: int | None, terms: Terms) -> Semaphore:
        """Return the semaphore of that name."""
        if size is not None:
            checked_size(size, "permits", MOST)
        return cls(reach, Resource(checked_name(name), KIND), 1, size, terms)

    def several(self, count: int) -> PermitSection:
        """Return what a block enters that needs `count` permits at once.

        Raises:
            Misuse: there are never so many.
        """
        return PermitSection(self._reach, self._resource, count, self._size, self._terms)

    def acquire(self, count: int = 1) -> Permits:
        """Acquire `count` permits at once or none, and return their lease, which the caller must release.

        Raises:
            Misuse: there are never so many (at once), or `SizeDiffers`: the store has another number of permits.
            NotAcquired: others held them all the time; nothing is left behind.
            Unavailable: the store was not reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; the caller holds none, but some may be taken until the
                store answers again or the ttl is over.
        """
        frame = sys._getframe(1)
        section = self if count == 1 and type(count) is int else self.several(count)
        return section._take((frame.f_code, frame.f_lineno))

    def resize(self, permits: int) -> int:
        """Set how many permits there are, for everybody, and return how many there were; 0 where nobody had said.

        Nobody loses what they hold: growing lets in those who wait, shrinking waits for holders to go (S3).

        Raises:
            Misuse: not a number from 1 to a million.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        size = checked_size(permits, "permits", MOST)
        backend = self._reach().backend
        before = drive(backend.resize(self._resource, size, False, backend.patience))
        self._resized(size)
        return before

    def free(self) -> int:
        """Return how many permits nobody holds, as the store has it at this moment."""
        return drive(free_in(self._reach(), self._resource))


class AsyncSemaphore(AsyncPermitSection):
    """A lock that a number of holders have at a time.

        gpus = locks.semaphore("gpu", permits=4)
        async with gpus: ...                      # one permit
        async with gpus.several(2) as lease: ...  # two at once, or none
        lease = await gpus.acquire(3)

    First come, first served, whatever the numbers: who asks for many is not overtaken by those who ask for few.
    """

    __slots__ = ()

    @classmethod
    def named(cls, reach: Reach, name: str, size: int | None, terms: Terms) -> AsyncSemaphore:
        """Return the semaphore of that name."""
        if size is not None:
            checked_size(size, "permits", MOST)
        return cls(reach, Resource(checked_name(name), KIND), 1, size, terms)

    def several(self, count: int) -> AsyncPermitSection:
        """Return what a block enters that needs `count` permits at once.

        Raises:
            Misuse: there are never so many.
        """
        return AsyncPermitSection(self._reach, self._resource, count, self._size, self._terms)

    async def acquire(self, count: int = 1) -> AsyncPermits:
        """Acquire `count` permits at once or none, and return their lease, which the caller must release.

        Raises:
            Misuse: there are never so many (at once), or `SizeDiffers`: the store has another number of permits.
            NotAcquired: others held them all the time; nothing is left behind.
            Unavailable: the store was not reached; nothing was changed.
            OutcomeUnknown: the store stopped answering; the caller holds none, but some may be taken until the
                store answers again or the ttl is over.
        """
        frame = sys._getframe(1)
        section = self if count == 1 and type(count) is int else self.several(count)
        return await section._take((frame.f_code, frame.f_lineno))

    async def resize(self, permits: int) -> int:
        """Set how many permits there are, for everybody, and return how many there were; 0 where nobody had said.

        Nobody loses what they hold: growing lets in those who wait, shrinking waits for holders to go (S3).

        Raises:
            Misuse: not a number from 1 to a million.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        size = checked_size(permits, "permits", MOST)
        backend = self._reach().backend
        before = await backend.resize(self._resource, size, False, backend.patience)
        self._resized(size)
        return before

    async def free(self) -> int:
        """Return how many permits nobody holds, as the store has it at this moment."""
        return await free_in(self._reach(), self._resource)
