"""Policies put together round a function."""

from __future__ import annotations

from .protect import protect

__all__ = ["protect"]
