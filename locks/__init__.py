"""Locks that tell the truth: one holder at a time, a fence to prove it, and news when it is over.

from backstay.locks import Locks

locks = Locks.connect("redis://localhost/0", namespace="shop")
with locks.mutex("order:42", ttl=10, wait=5) as lease:
    write(order, fence=lease.fence)
"""

from __future__ import annotations

from .backend import Holding, Queued, Survey
from .claims import Resource, Unit
from .connection import AsyncLocks, Locks
from .elections.election import AsyncElection, Election, Leader
from .elections.leadership import AsyncLeadership, Leadership
from .errors import BrokenBarrier, LockLost, SizeDiffers
from .guard import current_lease
from .leases.handle import AsyncLease, Held, Lease
from .operations import Break
from .options import Options
from .recipes.barrier import AsyncBarrier, Barrier
from .recipes.latch import AsyncLatch, Latch
from .recipes.multi import AsyncMulti, AsyncMultiLease, Multi, MultiLease
from .recipes.mutex import AsyncMutex, Mutex
from .recipes.once import Once
from .recipes.read_write import AsyncReadWrite, AsyncReadWriteLease, ReadWrite, ReadWriteLease
from .recipes.segmented import AsyncSegmented, Segmented
from .recipes.semaphore import AsyncPermits, AsyncSemaphore, Permits, Semaphore
from .recipes.singleton import AsyncSingleton, Singleton
from .recipes.stock import AsyncPortion, AsyncStock, Levels, Portion, Stock
from .states.news import News

__all__ = [
    "AsyncBarrier",
    "AsyncElection",
    "AsyncLatch",
    "AsyncLeadership",
    "AsyncLease",
    "AsyncLocks",
    "AsyncMulti",
    "AsyncMultiLease",
    "AsyncMutex",
    "AsyncPermits",
    "AsyncPortion",
    "AsyncReadWrite",
    "AsyncReadWriteLease",
    "AsyncSegmented",
    "AsyncSemaphore",
    "AsyncSingleton",
    "AsyncStock",
    "Barrier",
    "Break",
    "BrokenBarrier",
    "Election",
    "Held",
    "Holding",
    "Latch",
    "Leader",
    "Leadership",
    "Lease",
    "Levels",
    "LockLost",
    "Locks",
    "Multi",
    "MultiLease",
    "Mutex",
    "News",
    "Once",
    "Options",
    "Permits",
    "Portion",
    "Queued",
    "ReadWrite",
    "ReadWriteLease",
    "Resource",
    "Segmented",
    "Semaphore",
    "Singleton",
    "SizeDiffers",
    "Stock",
    "Survey",
    "Unit",
    "current_lease",
]
