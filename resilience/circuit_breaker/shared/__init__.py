"""Breakers of several instances: local counting, opinions with a quorum, shared permits for probes, one override."""

from __future__ import annotations

from .board import SharedBreakers, SharedView

__all__ = ["SharedBreakers", "SharedView"]
