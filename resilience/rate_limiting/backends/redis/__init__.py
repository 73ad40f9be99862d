"""Token buckets on one Redis server, shared by any number of processes."""

from __future__ import annotations

from .buckets import AsyncRedisBuckets, RedisBuckets
from .settings import Settings
from .store import Store

__all__ = ["AsyncRedisBuckets", "RedisBuckets", "Settings", "Store"]
