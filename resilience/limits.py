"""The strategy `token-bucket` of the `limits` package; importing this module makes the name known to it.

from backstay.resilience.limits import TOKEN_BUCKET
limiter = flask_limiter.Limiter(get_remote_address, app=app, strategy=TOKEN_BUCKET)
"""

from __future__ import annotations

from backstay.url import require

require("limits", "limits")

from .rate_limiting.strategies import (  # noqa: E402  # without the packages there is nothing to import
    TOKEN_BUCKET,
    AsyncTokenBucketRateLimiter,
    StorageUnsupported,
    TokenBucketRateLimiter,
    register,
)

__all__ = ["TOKEN_BUCKET", "AsyncTokenBucketRateLimiter", "StorageUnsupported", "TokenBucketRateLimiter", "register"]
