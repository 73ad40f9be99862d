"""Adaptive concurrency: no number to guess, the limit follows what the dependency bears."""

from __future__ import annotations

from .policy import ConcurrencyLimit
from .priority import Priority, prioritised
from .settings import ConcurrencySettings

__all__ = ["ConcurrencyLimit", "ConcurrencySettings", "Priority", "prioritised"]
