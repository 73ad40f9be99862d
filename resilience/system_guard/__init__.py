"""A guard for the process itself: refuse early what could only be answered late."""

from __future__ import annotations

from .errors import Overloaded
from .policy import SystemGuard
from .settings import GuardSettings

__all__ = ["GuardSettings", "Overloaded", "SystemGuard"]
