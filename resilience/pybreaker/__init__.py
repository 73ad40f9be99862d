"""The API of pybreaker over a breaker that holds no lock during a call, and serves asyncio: change one import.

    from backstay.resilience.pybreaker import CircuitBreaker, CircuitBreakerError   # was: from pybreaker import ...

Listeners, storages, states and errors are pybreaker's own classes or subclasses of them, so that what was written
for pybreaker goes on working, `isinstance` included. What differs: docs/how-to/come-from-pybreaker.md.
"""

from __future__ import annotations

from backstay.errors import MissingExtra

try:
    from pybreaker import (
        HAS_TORNADO_SUPPORT as HAS_TORNADO_SUPPORT,
        STATE_CLOSED,
        STATE_HALF_OPEN,
        STATE_OPEN,
        CircuitBreakerListener,
        CircuitBreakerState,
        CircuitBreakerStorage,
        CircuitMemoryStorage,
        CircuitRedisStorage,
    )
except ImportError as missing:
    raise MissingExtra("pybreaker is not installed; pip install 'backstay[pybreaker]'") from missing

from .breaker import CircuitBreaker
from .errors import CircuitBreakerError
from .states import CircuitClosedState, CircuitHalfOpenState, CircuitOpenState

__all__ = [
    "STATE_CLOSED",
    "STATE_HALF_OPEN",
    "STATE_OPEN",
    "CircuitBreaker",
    "CircuitBreakerError",
    "CircuitBreakerListener",
    "CircuitBreakerState",
    "CircuitBreakerStorage",
    "CircuitClosedState",
    "CircuitHalfOpenState",
    "CircuitMemoryStorage",
    "CircuitOpenState",
    "CircuitRedisStorage",
]
