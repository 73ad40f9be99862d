"""Who is refused first when there is not room for all: a context variable, inherited by tasks and pooled calls."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum

from backstay.errors import Misuse

__all__ = ["RANK", "Priority", "prioritised", "share"]


class Priority(IntEnum):
    """How much a call matters: a payment is critical, a page is default, a prefetch can be shed."""

    CRITICAL = 0
    DEFAULT = 1
    SHEDDABLE = 2


RANK: ContextVar[int] = ContextVar("backstay_priority", default=Priority.DEFAULT.value)
"""The priority of the work in hand, as a number: an index into shares. For policies."""


@contextmanager
def prioritised(priority: Priority | str) -> Generator[None]:
    """Give everything that a block calls this priority: `with prioritised("sheddable"): ...`.

    Raises:
        Misuse: there is no such priority.
    """
    token = RANK.set(rank_of(priority))
    try:
        yield
    finally:
        RANK.reset(token)


def rank_of(priority: Priority | str) -> int:
    """Return the index of a priority, by itself or by its name."""
    for known in Priority:
        if priority is known or (isinstance(priority, str) and priority.upper() == known.name):
            return known.value
    raise Misuse(f"a priority is one of {', '.join(known.name.lower() for known in Priority)}, got {priority!r}")


def share(limit: int, fraction: float) -> int:
    """Return the part of a limit that a priority may use: rounded up, so that nobody is locked out for good."""
    return max(1, min(limit, -int(-limit * fraction // 1)))
