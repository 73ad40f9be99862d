"""Bulkheads: one slow dependency takes a bounded share of the process, never all of it."""

from __future__ import annotations

from .policy import Bulkhead
from .settings import BulkheadSettings
from .thread_pool import Pending, ThreadPool, ThreadPoolSettings, cancelled

__all__ = ["Bulkhead", "BulkheadSettings", "Pending", "ThreadPool", "ThreadPoolSettings", "cancelled"]
