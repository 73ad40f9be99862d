"""Exact token buckets, in this process or shared through Redis."""

from __future__ import annotations

from .backend import AsyncBuckets, Buckets, StoreFailed
from .connect import disconnect
from .decision import Decision, Result
from .failure import FailureMode
from .limiter import AsyncRateLimiter, RateLimiter
from .rate import Rate, Scale

__all__ = [
    "AsyncBuckets",
    "AsyncRateLimiter",
    "Buckets",
    "Decision",
    "FailureMode",
    "Rate",
    "RateLimiter",
    "Result",
    "Scale",
    "StoreFailed",
    "disconnect",
]
