"""The default order of policies, as data (CO-1)."""

from __future__ import annotations

__all__ = ["ORDER"]

ORDER = (
    "operation",
    "switch",
    "fallback",
    "level",
    "rate_limiter",
    "system_guard",
    "timeout",
    "retry",
    "hedge",
    "circuit_breaker",
    "attempt_timeout",
    "concurrency_limit",
    "bulkhead",
    "load_balancer",
)
"""Kinds of policies, outermost first: a call is measured, switched, covered and charged once, and then bounded in
all; each attempt passes the breaker and its own timeout, and holds a permit only while it runs."""
