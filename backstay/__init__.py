"""Backstay: locks, transactions, sharding and resilience for Python services that already exist."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
