"""The deadline of the work in hand: one context variable that everything further in may read.

It stops nothing by itself. Retries sleep no longer than it lasts, timeouts further in shorten to it, thread pools
drop work that is past it, adapters turn it into socket timeouts, and `header` takes it to the next service. Tasks
and copied contexts inherit it; it is a stamp of the local monotonic clock, so it never leaves the process as it is.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

from backstay.clock import Clock, monotonic

from ..policy import seconds as checked_seconds
from .errors import DeadlineExceeded

__all__ = ["DUE", "deadline", "leave", "remaining", "within"]

T = TypeVar("T")

DUE: ContextVar[float | None] = ContextVar("backstay_due", default=None)
"""When the work in hand must have ended, on the monotonic clock; None for no deadline. For policies."""


def leave(variable: ContextVar[T], token: Token[T]) -> None:
    """Give a variable its value from before `token`; a coroutine that is collected ends in a foreign context."""
    try:
        variable.reset(token)
    except ValueError:  # this context never had the value that is taken back
        pass


def remaining(*, clock: Clock = monotonic) -> float | None:
    """Return the seconds that the work in hand has left, never below 0, or None where there is no deadline."""
    due = DUE.get()
    return None if due is None else max(0.0, due - clock())


def within(seconds: float | None = None, *, clock: Clock = monotonic) -> float | None:
    """Return the timeout for a step: `seconds`, or what remains where that is less.

    Args:
        seconds: the step's own timeout; None for none.
        clock: of the deadline.

    Raises:
        DeadlineExceeded: nothing remains; the step must not begin.
    """
    due = DUE.get()
    if due is None:
        return seconds
    left = due - clock()
    if left <= 0:
        raise DeadlineExceeded(f"the deadline passed {-left:.3f} s ago; nothing was begun")
    return left if seconds is None else min(left, seconds)


class deadline:  # noqa: N801  # a context manager that reads like a statement, as `suppress` does
    """Gives the block a deadline: `with deadline(0.5): ...`; a nearer one outside stays in force.

    The block is not interrupted. What is inside sees it by `remaining()`. In async code the block may await.

    Args:
        seconds: from entry; 0 for a deadline that has passed already, as a caller may send one.
        clock: monotonic seconds.

    Raises:
        Misuse: `seconds` is no duration, or below 0.
    """

    __slots__ = ("_clock", "_seconds", "_token")

    def __init__(self, seconds: float | timedelta, *, clock: Clock = monotonic) -> None:
        self._seconds = checked_seconds(seconds, "deadline", zero=True)
        self._clock = clock
        self._token: Token[float | None] | None = None

    def __enter__(self) -> deadline:
        due, outer = self._clock() + self._seconds, DUE.get()
        self._token = DUE.set(due if outer is None or due < outer else outer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            leave(DUE, token)
