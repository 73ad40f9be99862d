"""The contracts of a store of locks: what every backend promises for each recipe that it carries, on both faces.

Subclass one class for each recipe, give `connect` and `connect_async`, and run it on your store. The suites wait in
real time for what only time can show (an expiry, a renewal), a few tenths of a second each.
"""

from __future__ import annotations

from .documents import DocumentsContract
from .election import ElectionContract, OnceContract
from .faces import AsyncFace, BlockingFace, Face, LocksContract, OneThread
from .gathering import BarrierContract, LatchContract
from .hand_over import HandOverContract
from .multi import MultiContract
from .mutex import MutexContract
from .operations import OperationsContract
from .read_write import ReadWriteContract
from .reentrant import ReentrantContract
from .segmented import SegmentedContract
from .semaphore import SemaphoreContract
from .stock import StockContract

__all__ = [
    "AsyncFace",
    "BarrierContract",
    "BlockingFace",
    "DocumentsContract",
    "ElectionContract",
    "Face",
    "HandOverContract",
    "LatchContract",
    "LocksContract",
    "MultiContract",
    "MutexContract",
    "OnceContract",
    "OneThread",
    "OperationsContract",
    "ReadWriteContract",
    "ReentrantContract",
    "SegmentedContract",
    "SemaphoreContract",
    "StockContract",
]
