"""The outermost policy, which measures."""

from __future__ import annotations

from .policy import Operation

__all__ = ["Operation"]
