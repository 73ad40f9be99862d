"""Many may read or one may write: the read-write lock, blocking and asyncio.

First come, first served: a reader that comes after a waiting writer waits behind it, so a stream of readers starves no
writer, nor a stream of writers a reader (RW2). Each reader is a grant of its own with its own time-to-live; one that
dies frees only itself (RW1).

Blocks nest within one thread or task, counted in the process: reading or writing inside a block that writes, reading
inside a block that reads. Writing inside a block that reads would wait for itself, and two such readers for each other:
it is refused at once (RW3).
"""

from __future__ import annotations

from typing import Unpack

from backstay.blocking import drive

from ..claims import READ, WRITE, Claim, Resource
from ..leases.handle import Site
from ..leases.lease import Grant
from ..leases.protocol import LeaseProtocol
from ..options import Options, Terms, changed, checked_name
from .mutex import AsyncSection, Reach, Section
from .reentrant import AsyncReentrantLease, Hold, Holds, ReentrantLease

__all__ = ["AsyncReadWrite", "AsyncReadWriteLease", "AsyncReadWriteSide", "ReadWrite", "ReadWriteLease",
           "ReadWriteSide"]  # fmt: skip

KIND = "read-write lock"


class ReadWriteLease(ReentrantLease):
    """A lease to read or to write."""

    __slots__ = ()

    @property
    def writes(self) -> bool:
        """Whether it excludes all others."""
        return self._grant.claim == WRITE

    def downgrade(self) -> None:
        """Go on as a reader, without a moment in which another could write; readers that wait come in.

        The fence stays the same. A lease that reads already is left as it is.

        Raises:
            Misuse: other blocks of this thread stand on the same grant.
            LockLost: the lease has ended.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        if self.writes:
            self._hold.alone("downgrade()")
            drive(self._protocol.lessen(self._grant, READ))


class AsyncReadWriteLease(AsyncReentrantLease):
    """A lease to read or to write."""

    __slots__ = ()

    @property
    def writes(self) -> bool:
        """Whether it excludes all others."""
        return self._grant.claim == WRITE

    async def downgrade(self) -> None:
        """Go on as a reader, without a moment in which another could write; readers that wait come in.

        The fence stays the same. A lease that reads already is left as it is.

        Raises:
            Misuse: other blocks of this task stand on the same grant.
            LockLost: the lease has ended.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        if self.writes:
            self._hold.alone("downgrade()")
            await self._protocol.lessen(self._grant, READ)


def _lease(protocol: LeaseProtocol, grant: Grant, site: Site) -> ReadWriteLease:
    hold = Hold(protocol, grant)
    return ReadWriteLease(hold, hold.enter(), site)


def _async_lease(protocol: LeaseProtocol, grant: Grant, site: Site) -> AsyncReadWriteLease:
    hold = Hold(protocol, grant)
    return AsyncReadWriteLease(hold, hold.enter(), site)


class ReadWriteSide(Section[ReadWriteLease]):
    """One side of a read-write lock: `with lock.read():` or `with lock.write():`.

    Blocks nest in one thread. What `acquire` returns belongs to whoever has it: no block finds it.
    """

    __slots__ = ("_holds",)

    def __init__(self, reach: Reach, holds: Holds, resource: Resource, claim: Claim, terms: Terms) -> None:
        super().__init__(reach, resource, claim, terms, _lease)
        self._holds = holds

    def _take(self, site: Site) -> ReadWriteLease:
        self._holds.refuse_upgrade(self._resource, self._claim)
        return super()._take(site)

    def _enter(self, site: Site) -> ReadWriteLease:
        found = self._holds.enter(self._resource, self._claim)
        if found is not None:
            return ReadWriteLease(*found, site)
        lease = super()._take(site)
        self._holds.note(lease.hold)
        return lease


class AsyncReadWriteSide(AsyncSection[AsyncReadWriteLease]):
    """One side of a read-write lock: `async with lock.read():` or `async with lock.write():`.

    Blocks nest in one task. What `acquire` returns belongs to whoever has it: no block finds it.
    """

    __slots__ = ("_holds",)

    def __init__(self, reach: Reach, holds: Holds, resource: Resource, claim: Claim, terms: Terms) -> None:
        super().__init__(reach, resource, claim, terms, _async_lease)
        self._holds = holds

    async def _take(self, site: Site) -> AsyncReadWriteLease:
        self._holds.refuse_upgrade(self._resource, self._claim)
        return await super()._take(site)

    async def _enter(self, site: Site) -> AsyncReadWriteLease:
        found = self._holds.enter(self._resource, self._claim)
        if found is not None:
            return AsyncReadWriteLease(*found, site)
        lease = await super()._take(site)
        self._holds.note(lease.hold)
        return lease


class ReadWrite:
    """A lock that many may hold to read or one to write.

        catalogue = locks.read_write("catalogue")
        with catalogue.read(): ...
        with catalogue.write() as lease:
            change(fence=lease.fence)
            lease.downgrade()
            check()

    Fair: nobody overtakes who came before, readers beside readers excepted where no writer waits between them.
    """

    __slots__ = ("_holds", "_reach", "_resource", "_terms")

    def __init__(self, reach: Reach, holds: Holds, name: str, terms: Terms) -> None:
        self._reach, self._holds, self._terms = reach, holds, terms
        self._resource = Resource(checked_name(name), KIND)

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._resource.name

    def read(self, **options: Unpack[Options]) -> ReadWriteSide:
        """Return the side that many may hold at once.

        Args:
            options: what differs from the terms of the lock.

        Raises:
            Misuse: one of these is out of range.
        """
        return ReadWriteSide(self._reach, self._holds, self._resource, READ, changed(self._terms, options))

    def write(self, **options: Unpack[Options]) -> ReadWriteSide:
        """Return the side that one may hold, and nobody else beside it.

        Args:
            options: what differs from the terms of the lock.

        Raises:
            Misuse: one of these is out of range; on entering, where a block of this thread reads.
        """
        return ReadWriteSide(self._reach, self._holds, self._resource, WRITE, changed(self._terms, options))


class AsyncReadWrite:
    """A lock that many may hold to read or one to write.

        catalogue = locks.read_write("catalogue")
        async with catalogue.read(): ...
        async with catalogue.write() as lease:
            await change(fence=lease.fence)
            await lease.downgrade()
            await check()

    Fair: nobody overtakes who came before, readers beside readers excepted where no writer waits between them.
    """

    __slots__ = ("_holds", "_reach", "_resource", "_terms")

    def __init__(self, reach: Reach, holds: Holds, name: str, terms: Terms) -> None:
        self._reach, self._holds, self._terms = reach, holds, terms
        self._resource = Resource(checked_name(name), KIND)

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._resource.name

    def read(self, **options: Unpack[Options]) -> AsyncReadWriteSide:
        """Return the side that many may hold at once.

        Args:
            options: what differs from the terms of the lock.

        Raises:
            Misuse: one of these is out of range.
        """
        return AsyncReadWriteSide(self._reach, self._holds, self._resource, READ, changed(self._terms, options))

    def write(self, **options: Unpack[Options]) -> AsyncReadWriteSide:
        """Return the side that one may hold, and nobody else beside it.

        Args:
            options: what differs from the terms of the lock.

        Raises:
            Misuse: one of these is out of range; on entering, where a block of this task reads.
        """
        return AsyncReadWriteSide(self._reach, self._holds, self._resource, WRITE, changed(self._terms, options))
