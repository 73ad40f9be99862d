"""Exact token buckets, in this process or shared through Redis: one at a time, several together, now or in line."""

from __future__ import annotations

from .backend import AsyncBuckets, AsyncReserving, Buckets, Reserving, StoreFailed, Taken
from .carry import Carry
from .connect import disconnect
from .decision import Decision, Result
from .failure import FailureMode
from .joint import AsyncJointRateLimiter, JointRateLimiter
from .jointly import JointDecision
from .limiter import AsyncRateLimiter, RateLimiter
from .policy import RateLimit
from .rate import Rate, Scale
from .reserved import AsyncReservation, Reservation
from .settings import RateLimitSettings

__all__ = [
    "AsyncBuckets",
    "AsyncJointRateLimiter",
    "AsyncRateLimiter",
    "AsyncReservation",
    "AsyncReserving",
    "Buckets",
    "Carry",
    "Decision",
    "FailureMode",
    "JointDecision",
    "JointRateLimiter",
    "Rate",
    "RateLimit",
    "RateLimitSettings",
    "RateLimiter",
    "Reservation",
    "Reserving",
    "Result",
    "Scale",
    "StoreFailed",
    "Taken",
    "disconnect",
]
