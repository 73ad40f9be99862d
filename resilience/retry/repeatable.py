"""Which errors may be followed by another attempt, and which objects look at more than errors."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any, cast

from backstay.errors import BreakerOpen, Misuse, OutcomeUnknown

from ..timeout import DeadlineExceeded
from .settings import Hook, RetrySettings

__all__ = ["asks_again", "is_async", "may_repeat", "wants_results"]


def may_repeat(error: BaseException, settings: RetrySettings) -> bool:
    """Return whether repeating can be right at all, whatever the user's own predicate says.

    A mistake stays a mistake, what may have happened must not happen twice, an open breaker says that there is no
    point, and a deadline that has passed stays passed. A group is as bad as its worst member.
    """
    if isinstance(error, BaseExceptionGroup):
        members: tuple[BaseException, ...] = cast("Any", error).exceptions
        return isinstance(error, Exception) and all(may_repeat(each, settings) for each in members)
    if isinstance(error, OutcomeUnknown):
        return settings.idempotent
    if isinstance(error, BreakerOpen):
        return settings.open_breaker
    return not isinstance(error, Misuse | DeadlineExceeded)


def asks_again(error: BaseException) -> bool:
    """Return whether the function itself asked for another attempt, by tenacity's `TryAgain`."""
    wanted = getattr(sys.modules.get("tenacity"), "TryAgain", None)
    return wanted is not None and isinstance(error, wanted)


def wants_results(retry: Hook | None) -> bool:
    """Return whether a predicate must be shown results: those of tenacity that look at errors alone need not."""
    if retry is None:
        return False
    call: Any = type(retry).__call__
    for module in ("tenacity.retry", "tenacity.asyncio.retry"):
        of_errors = getattr(sys.modules.get(module), "retry_if_exception", None)
        # by the method: `retry_unless_exception_type` is of that class as well, and repeats whatever raises nothing
        if of_errors is not None and call is of_errors.__call__:
            return False
    return True


def is_async(hook: Hook) -> bool:
    """Return whether calling it gives something to await, as far as can be seen before; members are looked at too."""
    inner: Any = hook
    while isinstance(inner, functools.partial):
        inner = inner.func
    kind: Any = inner.__class__
    if any(inspect.iscoroutinefunction(each) for each in (inner, getattr(kind, "__call__", None))):  # noqa: B004
        return True
    return any(is_async(each) for each in getattr(inner, "retries", ()))
