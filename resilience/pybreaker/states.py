"""pybreaker's three state objects, which say that they begin to listeners that cannot break anything."""

from __future__ import annotations

from typing import Any, Protocol

import pybreaker

__all__ = ["CircuitClosedState", "CircuitHalfOpenState", "CircuitOpenState", "Telling"]


class Telling(Protocol):
    """What a state needs of its breaker."""

    def began(self, before: pybreaker.CircuitBreakerState | None, after: pybreaker.CircuitBreakerState) -> None:
        """Tell listeners and telemetry that a state has begun."""
        ...


class CircuitClosedState(pybreaker.CircuitClosedState):
    """Calls pass; failures in a row are counted in the storage."""

    def __init__(
        self,
        cb: pybreaker.CircuitBreaker,
        prev_state: pybreaker.CircuitBreakerState | None = None,
        notify: bool = False,
    ) -> None:
        super().__init__(cb, prev_state, notify=False)
        if notify:
            cb._state_storage.reset_counter()  # pyright: ignore[reportPrivateUsage]
            _telling(cb).began(prev_state, self)


class CircuitOpenState(pybreaker.CircuitOpenState):
    """Calls are refused until the timeout is over."""

    def __init__(
        self,
        cb: pybreaker.CircuitBreaker,
        prev_state: pybreaker.CircuitBreakerState | None = None,
        notify: bool = False,
    ) -> None:
        super().__init__(cb, prev_state, notify=False)
        if notify:
            cb._state_storage.reset_success_counter()  # pyright: ignore[reportPrivateUsage]
            _telling(cb).began(prev_state, self)


class CircuitHalfOpenState(pybreaker.CircuitHalfOpenState):
    """One trial call at a time; the others are refused."""

    def __init__(
        self,
        cb: pybreaker.CircuitBreaker,
        prev_state: pybreaker.CircuitBreakerState | None = None,
        notify: bool = False,
    ) -> None:
        super().__init__(cb, prev_state, notify=False)
        if notify:
            cb._state_storage.reset_success_counter()  # pyright: ignore[reportPrivateUsage]
            _telling(cb).began(prev_state, self)


def _telling(breaker: Any) -> Telling:
    told: Telling = breaker
    return told
