"""The refusal, in both vocabularies."""

from __future__ import annotations

import pybreaker

from backstay.errors import BreakerOpen

__all__ = ["CircuitBreakerError"]


class CircuitBreakerError(pybreaker.CircuitBreakerError, BreakerOpen):
    """The breaker is open, or this failure has opened it.

    It is pybreaker's error, so that old `except` clauses go on catching it, and a `BreakerOpen`, so that fallbacks,
    retries and the HTTP handlers know it. `retry_after` is the seconds until the trial call, where they are known.
    """
