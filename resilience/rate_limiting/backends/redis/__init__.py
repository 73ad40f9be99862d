"""Token buckets on Redis, shared by any number of processes: one server, those of Sentinel, or a Cluster."""

from __future__ import annotations

from .buckets import AsyncRedisBuckets, RedisBuckets
from .store import Store

__all__ = ["AsyncRedisBuckets", "RedisBuckets", "Store"]
