"""The contracts of a store of locks: what every backend promises for each recipe that it carries, on both faces.

Subclass one class for each recipe, give `connect` and `connect_async`, and run it on your store. The suites wait in
real time for what only time can show (an expiry, a renewal), a few tenths of a second each.
"""

from __future__ import annotations

from .faces import AsyncFace, BlockingFace, Face, LocksContract, OneThread
from .multi import MultiContract
from .mutex import MutexContract
from .read_write import ReadWriteContract
from .reentrant import ReentrantContract
from .segmented import SegmentedContract
from .semaphore import SemaphoreContract

__all__ = [
    "AsyncFace",
    "BlockingFace",
    "Face",
    "LocksContract",
    "MultiContract",
    "MutexContract",
    "OneThread",
    "ReadWriteContract",
    "ReentrantContract",
    "SegmentedContract",
    "SemaphoreContract",
]
