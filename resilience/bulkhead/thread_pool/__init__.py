"""Thread pools with a bound on everything: workers, queue, and the time that a caller waits."""

from __future__ import annotations

from .job import cancelled
from .pending import Pending
from .policy import ThreadPool
from .settings import ThreadPoolSettings

__all__ = ["Pending", "ThreadPool", "ThreadPoolSettings", "cancelled"]
