"""Stay useful under load: limits, degradation switches, and the decorator that puts them round a function."""

from __future__ import annotations

from .rate_limiting import AsyncRateLimiter, Decision, Rate, RateLimiter

__all__ = ["AsyncRateLimiter", "Decision", "Rate", "RateLimiter"]
