"""What stop, wait and retry objects and hooks are told: the attributes of tenacity's `RetryCallState`.

It is our own class, so that tenacity need not be installed, and made when a call has failed, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

__all__ = ["ATTEMPT", "Outcome", "Pause", "RetryState", "attempt_number"]

ATTEMPT: ContextVar[int] = ContextVar("backstay_attempt", default=1)


def attempt_number() -> int:
    """Return which attempt of the innermost retry runs here: 1 for the first."""
    return ATTEMPT.get()


class Outcome:
    """What an attempt came to; reads like a future that is done."""

    __slots__ = ("_error", "_value", "attempt_number")

    def __init__(self, attempt: int, value: Any, error: BaseException | None) -> None:
        self.attempt_number = attempt
        self._value = value
        self._error = error

    @property
    def failed(self) -> bool:
        """Whether it raised."""
        return self._error is not None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what it raised, or None."""
        return self._error

    def result(self, timeout: float | None = None) -> Any:
        """Return its result, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


class Pause:
    """What is done next: sleep so many seconds."""

    __slots__ = ("sleep",)

    def __init__(self, sleep: float) -> None:
        self.sleep = sleep

    def __str__(self) -> str:
        return f"Pause(sleep={self.sleep})"


class RetryState:
    """One call so far.

    Attributes:
        start_time: when the call began; when its first attempt failed, where nobody needs the former.
        retry_object: the policy.
        fn: the protected function.
        args: of the call.
        kwargs: of the call.
        attempt_number: 1 for the first.
        outcome: of the last attempt; None while one runs.
        outcome_timestamp: when it came.
        idle_for: seconds slept so far.
        next_action: the pause that comes, with `.sleep`.
        upcoming_sleep: seconds of the pause that would come.
    """

    __slots__ = (
        "args", "attempt_number", "fn", "idle_for", "kwargs", "next_action", "outcome", "outcome_timestamp",
        "retry_object", "start_time", "upcoming_sleep",
    )  # fmt: skip

    def __init__(
        self, retry_object: object, fn: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any],
        start_time: float,
    ) -> None:  # fmt: skip
        self.start_time = start_time
        self.retry_object = retry_object
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.attempt_number = 1
        self.outcome: Outcome | None = None
        self.outcome_timestamp: float | None = None
        self.idle_for = 0.0
        self.next_action: Pause | None = None
        self.upcoming_sleep = 0.0

    @property
    def seconds_since_start(self) -> float | None:
        """Seconds from the beginning to the last outcome."""
        return None if self.outcome_timestamp is None else self.outcome_timestamp - self.start_time

    def get_fn_name(self) -> str:
        """Return the function's name with its module."""
        name = getattr(self.fn, "__qualname__", None)
        return f"{getattr(self.fn, '__module__', '')}.{name}" if name else str(self.retry_object)

    def ended(self, now: float, *, value: Any = None, error: BaseException | None = None) -> None:
        """Note what the attempt came to."""
        self.outcome, self.outcome_timestamp = Outcome(self.attempt_number, value, error), now

    def prepare_for_next_attempt(self) -> None:
        """Count on."""
        self.outcome = self.outcome_timestamp = self.next_action = None
        self.attempt_number += 1
