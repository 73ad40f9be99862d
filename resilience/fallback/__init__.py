"""Something to say instead of an error: a value, a function, or the last good answer."""

from __future__ import annotations

from .policy import Fallback
from .settings import CacheSettings, FallbackSettings

__all__ = ["CacheSettings", "Fallback", "FallbackSettings"]
