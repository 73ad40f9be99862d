"""Bulkheads: one slow dependency takes a bounded share of the process, never all of it."""

from __future__ import annotations

from .policy import Bulkhead
from .settings import BulkheadSettings

__all__ = ["Bulkhead", "BulkheadSettings"]
