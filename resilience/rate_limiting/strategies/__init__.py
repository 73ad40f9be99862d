"""The exact token bucket as a strategy of the `limits` package, so that Flask-Limiter and slowapi use it by name.

    from backstay.resilience.limits import TOKEN_BUCKET
    Limiter(get_remote_address, app=app, storage_uri="redis://localhost/0", strategy=TOKEN_BUCKET)

Importing it enters the name in `limits.strategies.STRATEGIES` and `limits.aio.strategies.STRATEGIES`, the tables
in which those packages look names up. Nothing else of `limits` is touched.
"""

from __future__ import annotations

from .asynchronous import AsyncTokenBucketRateLimiter
from .blocking import TokenBucketRateLimiter
from .registry import TOKEN_BUCKET, register
from .stores import StorageUnsupported

__all__ = ["TOKEN_BUCKET", "AsyncTokenBucketRateLimiter", "StorageUnsupported", "TokenBucketRateLimiter", "register"]

register()
