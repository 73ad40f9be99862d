"""What can be set about a retry, and changed while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, TypedDict, cast

from backstay.errors import Misuse

from ..policy import fraction, from_mapping, positive_int, seconds

__all__ = ["Hook", "RetryOptions", "RetrySettings"]

Hook: TypeAlias = Callable[[Any], Any]
"""A stop, wait or retry object of tenacity, or any function of a `RetryState`; `async def` for async code only."""

_OBJECTS = ("stop", "wait", "retry", "before", "after", "before_sleep", "retry_error_callback")


class RetryOptions(TypedDict, total=False):
    """The settings as keywords."""

    attempts: int | None
    first_wait: float | timedelta
    longest_wait: float | timedelta
    deadline: float | timedelta | None
    on: tuple[type[Exception], ...]
    idempotent: bool
    open_breaker: bool
    obey_retry_after: bool
    longest_retry_after: float | timedelta
    budget: float | None
    budget_reserve: int
    budget_floor: float
    stop: Hook | None
    wait: Hook | None
    retry: Hook | None
    before: Hook | None
    after: Hook | None
    before_sleep: Hook | None
    retry_error_callback: Hook | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """When to try again, how soon, and how often.

    Attributes:
        attempts: in all, the first one included. None leaves it to `stop`, or is 3 where there is none.
        first_wait: the longest first wait; the second is up to twice as long, and so on, all with full jitter.
        longest_wait: what a wait grows to.
        deadline: seconds for all attempts and waits; None for that of the work in hand alone.
        on: errors that are tried again.
        idempotent: the call may be repeated although it may have taken effect: `OutcomeUnknown` is tried again.
        open_breaker: another attempt goes elsewhere, so that `BreakerOpen` is tried again.
        obey_retry_after: wait as long as the error asks, and the jitter on top.
        longest_retry_after: more than that is not waited for; the call ends.
        budget: retries per call that the policy adds to the load, over all calls (RT-2); None for no bound.
        budget_reserve: retries that may be saved up.
        budget_floor: retries a second that are allowed besides.
        stop: instead of `attempts`; both may be given, and either stops.
        wait: instead of full jitter.
        retry: instead of `on`; if it looks at results, each result is shown to it.
        before: called before each attempt.
        after: called after each attempt that is to be followed by another.
        before_sleep: called before each wait.
        retry_error_callback: its answer is the call's, where attempts run out.
    """

    attempts: int | None = None
    first_wait: float = 0.1
    longest_wait: float = 10.0
    deadline: float | None = None
    on: tuple[type[Exception], ...] = (Exception,)
    idempotent: bool = False
    open_breaker: bool = False
    obey_retry_after: bool = True
    longest_retry_after: float = 60.0
    budget: float | None = 0.2
    budget_reserve: int = 50
    budget_floor: float = 1.0
    stop: Hook | None = None
    wait: Hook | None = None
    retry: Hook | None = None
    before: Hook | None = None
    after: Hook | None = None
    before_sleep: Hook | None = None
    retry_error_callback: Hook | None = None

    def __post_init__(self) -> None:
        if self.attempts is not None:
            positive_int(self.attempts, "attempts")
        for name in ("first_wait", "longest_wait", "longest_retry_after"):
            object.__setattr__(self, name, seconds(getattr(self, name), name, zero=True))
        if self.first_wait > self.longest_wait:
            raise Misuse(f"first_wait must not be above longest_wait, got {self.first_wait} and {self.longest_wait}")
        if self.deadline is not None:
            object.__setattr__(self, "deadline", seconds(self.deadline, "deadline"))
        if self.budget is not None:
            fraction(self.budget, "budget")
        positive_int(self.budget_reserve, "budget_reserve")
        seconds(self.budget_floor, "budget_floor", zero=True)
        for name in ("idempotent", "open_breaker", "obey_retry_after"):
            if not isinstance(getattr(self, name), bool):
                raise Misuse(f"{name} must be true or false, got {getattr(self, name)!r}")
        self._check_errors()
        self._check_objects()

    def _check_errors(self) -> None:
        given: Any = self.on
        if isinstance(given, type):
            given = (given,)
        if not isinstance(given, tuple | list) or not given:
            raise Misuse(f"on must be exception classes, as in on=(ConnectionError,), got {given!r}")
        errors = tuple(cast("list[Any]", given))
        for error in errors:
            if not (isinstance(error, type) and issubclass(error, Exception)):
                raise Misuse(f"on takes exception classes; cancellation and exit are never tried again, got {error!r}")
        object.__setattr__(self, "on", errors)

    def _check_objects(self) -> None:
        for name in _OBJECTS:
            given = getattr(self, name)
            if given is not None and (not callable(given) or isinstance(given, type)):
                raise Misuse(
                    f"{name} must be a function or an object of tenacity, such as {name}_...(3), got {given!r}"
                )
        if self.retry is not None and self.on != (Exception,):
            raise Misuse("give on= or retry=, not both: write retry=retry_if_exception_type(...) for the former")

    @property
    def objects(self) -> tuple[tuple[str, Hook], ...]:
        """The functions that were given, with their names."""
        return tuple((name, given) for name in _OBJECTS if (given := getattr(self, name)) is not None)

    @classmethod
    def of(cls, value: Any) -> RetrySettings:
        """Return settings from settings, a mapping, or the number of attempts.

        Raises:
            Misuse: it is none of them, or out of range.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return from_mapping(cls, cast("Mapping[str, Any]", value), "retry")
        if isinstance(value, int) and not isinstance(value, bool):
            return cls(attempts=value)
        raise Misuse(f"a retry is a number of attempts or {{'attempts': 3, ...}}, got {value!r}")
