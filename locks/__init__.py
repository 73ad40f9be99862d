"""Locks that tell the truth: one holder at a time, a fence to prove it, and news when it is over.

from backstay.locks import Locks

locks = Locks.connect("redis://localhost/0", namespace="shop")
with locks.mutex("order:42", ttl=10, wait=5) as lease:
    write(order, fence=lease.fence)
"""

from __future__ import annotations

from .barrier import AsyncBarrier, Barrier
from .connection import AsyncLocks, Locks
from .errors import BrokenBarrier, LockLost, SizeDiffers
from .guard import current_lease
from .handle import AsyncLease, Held, Lease
from .latch import AsyncLatch, Latch
from .lock import AsyncMutex, Mutex
from .multi import AsyncMulti, AsyncMultiLease, Multi, MultiLease
from .options import Options
from .read_write import AsyncReadWrite, AsyncReadWriteLease, ReadWrite, ReadWriteLease
from .segmented import AsyncSegmented, Segmented
from .semaphore import AsyncPermits, AsyncSemaphore, Permits, Semaphore

__all__ = [
    "AsyncBarrier",
    "AsyncLatch",
    "AsyncLease",
    "AsyncLocks",
    "AsyncMulti",
    "AsyncMultiLease",
    "AsyncMutex",
    "AsyncPermits",
    "AsyncReadWrite",
    "AsyncReadWriteLease",
    "AsyncSegmented",
    "AsyncSemaphore",
    "Barrier",
    "BrokenBarrier",
    "Held",
    "Latch",
    "Lease",
    "LockLost",
    "Locks",
    "Multi",
    "MultiLease",
    "Mutex",
    "Options",
    "Permits",
    "ReadWrite",
    "ReadWriteLease",
    "Segmented",
    "Semaphore",
    "SizeDiffers",
    "current_lease",
]
