"""Locks that tell the truth: one holder at a time, a fence to prove it, and news when it is over.

from backstay.locks import Locks

locks = Locks.connect("redis://localhost/0", namespace="shop")
with locks.mutex("order:42", ttl=10, wait=5) as lease:
    write(order, fence=lease.fence)
"""

from __future__ import annotations

from .barrier import AsyncBarrier, Barrier
from .connection import AsyncLocks, Locks
from .errors import BrokenBarrier, LockLost
from .guard import current_lease
from .handle import AsyncLease, Held, Lease
from .latch import AsyncLatch, Latch
from .lock import AsyncMutex, Mutex

__all__ = [
    "AsyncBarrier",
    "AsyncLatch",
    "AsyncLease",
    "AsyncLocks",
    "AsyncMutex",
    "Barrier",
    "BrokenBarrier",
    "Held",
    "Latch",
    "Lease",
    "LockLost",
    "Locks",
    "Mutex",
    "current_lease",
]
