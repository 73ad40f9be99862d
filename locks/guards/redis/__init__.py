"""Guards in Redis: keys whose writes compare and remember the highest fence in the same script."""

from __future__ import annotations

from backstay.url import require

require("redis", "redis")

from .face import AsyncFencedKeys, FencedKeys  # noqa: E402

__all__ = ["AsyncFencedKeys", "FencedKeys"]
