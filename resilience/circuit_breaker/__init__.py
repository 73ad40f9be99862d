"""Circuit breakers: refuse at once while a dependency fails, and probe when it may be well again."""

from __future__ import annotations

from .errors import CircuitOpen
from .events import Listener, Transition
from .policy import CircuitBreaker
from .settings import BreakerOptions, BreakerSettings
from .snapshot import Snapshot
from .states import Cause, State

__all__ = [
    "BreakerOptions",
    "BreakerSettings",
    "Cause",
    "CircuitBreaker",
    "CircuitOpen",
    "Listener",
    "Snapshot",
    "State",
    "Transition",
]
