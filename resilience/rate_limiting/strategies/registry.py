"""The tables in which `limits`, and what is built on it, look strategies up."""

from __future__ import annotations

from typing import Any

import limits.aio.strategies
import limits.strategies

from .asynchronous import AsyncTokenBucketRateLimiter
from .blocking import TokenBucketRateLimiter

__all__ = ["TOKEN_BUCKET", "register"]

TOKEN_BUCKET = "token-bucket"  # noqa: S105  # no password
"""The strategy's name."""


def register() -> None:
    """Enter the strategy in both tables; entering it again changes nothing."""
    blocking: Any = limits.strategies.STRATEGIES  # typed for its own strategies only
    blocking[TOKEN_BUCKET] = TokenBucketRateLimiter
    asynchronous: Any = limits.aio.strategies.STRATEGIES
    asynchronous[TOKEN_BUCKET] = AsyncTokenBucketRateLimiter
