"""Policies round a function: what a policy is, how they are put together, and `protect`."""

from __future__ import annotations

from .policy import ORDER, AsyncCall, Call, Policy, Target
from .protect import protect

__all__ = ["ORDER", "AsyncCall", "Call", "Policy", "Target", "protect"]
