"""The default wait: exponential with full jitter (RT-1)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

__all__ = ["FullJitter"]


class FullJitter:
    """Waits anything from 0 to `first` x 2^(attempt - 1) seconds, at most `longest`.

    Clients that failed together come back spread over the whole interval, which loads a service that recovers the
    least (the "full jitter" of AWS' backoff study).
    """

    __slots__ = ("_first", "_longest", "_uniform")

    def __init__(
        self, first: float, longest: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first = first
        self._longest = longest
        self._uniform = uniform

    def __call__(self, retry_state: Any) -> float:
        doublings = min(retry_state.attempt_number - 1, 1000)  # 2.0 ** 1024 overflows
        return self._uniform(0.0, min(self._longest, self._first * 2.0**doublings))
