"""Which handle a grant gets by what it holds, for those who go on with one."""

from __future__ import annotations

from ..recipes.read_write import AsyncReadWriteLease, ReadWriteLease
from ..recipes.reentrant import Hold
from ..recipes.semaphore import AsyncPermits, Permits
from .handle import AsyncLease, Lease, Site
from .lease import Grant
from .protocol import LeaseProtocol

__all__ = ["async_lease_of", "lease_of"]


def lease_of(protocol: LeaseProtocol, grant: Grant, site: Site) -> Lease:
    """Return the handle of a grant, for threads."""
    if grant.resource.kind == "read-write lock":
        hold = Hold(protocol, grant)
        return ReadWriteLease(hold, hold.enter(), site)
    return (Permits if grant.resource.kind == "semaphore" else Lease)(protocol, grant, site)


def async_lease_of(protocol: LeaseProtocol, grant: Grant, site: Site) -> AsyncLease:
    """Return the handle of a grant, for asyncio."""
    if grant.resource.kind == "read-write lock":
        hold = Hold(protocol, grant)
        return AsyncReadWriteLease(hold, hold.enter(), site)
    return (AsyncPermits if grant.resource.kind == "semaphore" else AsyncLease)(protocol, grant, site)
