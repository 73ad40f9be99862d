"""Something to say instead of an error."""

from __future__ import annotations

from .policy import Fallback

__all__ = ["Fallback"]
