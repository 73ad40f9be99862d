"""Every error that Backstay raises: one root, four branches, one branch an answer.

A remote step ends as *done*, *not done* or *unknown*. `Rejected` and `Unavailable` are "not done",
`OutcomeUnknown` is "unknown", and `Misuse` says that the step could never have been started. Code may
therefore repeat a step after the first two, must ask before it repeats after the third, and needs a
programmer after the fourth. Drivers' errors are mapped to these in one place per backend, with the
driver's own error as `__cause__`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

__all__ = [
    "BackstayError",
    "BreakerOpen",
    "BulkheadFull",
    "Degraded",
    "MissingExtra",
    "Misuse",
    "NotAcquired",
    "OutcomeUnknown",
    "RateLimited",
    "Rejected",
    "Unavailable",
]


class BackstayError(Exception):
    """The root of all errors raised by Backstay.

    `http_status` is the answer that the Flask and FastAPI error handlers give for this kind of error.
    """

    http_status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"


class Rejected(BackstayError):
    """We said no, and nothing was changed; the same call may succeed later.

    Args:
        message: what was refused, by which instance, and what to do now.
        retry_after: seconds after which trying again makes sense, or None where nobody can tell.
    """

    http_status: ClassVar[int] = 503
    title: ClassVar[str] = "Refused for now"

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Rejected):
    """A rate limit has no tokens left for this call.

    Args:
        message: as for `Rejected`.
        retry_after: as for `Rejected`.
        rule: which of several rules refused, where there are several; the one that refuses longest.
    """

    http_status: ClassVar[int] = 429
    title: ClassVar[str] = "Too many requests"

    def __init__(self, message: str = "", *, retry_after: float | None = None, rule: str | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.rule = rule


class BulkheadFull(Rejected):
    """All permits of a bulkhead are in use and its queue is full."""


class BreakerOpen(Rejected):
    """A circuit breaker is open: the dependency behind it has been failing."""


class NotAcquired(Rejected):
    """A lock, permit or leadership is held by somebody else and did not come free in time."""

    http_status: ClassVar[int] = 409
    title: ClassVar[str] = "Held by another"


class Degraded(Rejected):
    """A degradation switch has turned this function off and no fallback was given."""


class Unavailable(BackstayError):
    """A dependency did not answer in time, and nothing was changed."""

    http_status: ClassVar[int] = 503
    title: ClassVar[str] = "Dependency unavailable"


class OutcomeUnknown(BackstayError):
    """It may or may not have happened: ask before you repeat it.

    Args:
        message: what is unknown and how to find out.
        ask: what to ask with later, such as `{"gtrid": "..."}` or `{"lock": "...", "fence": 7}`.
    """

    title: ClassVar[str] = "Outcome unknown"

    def __init__(self, message: str = "", *, ask: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.ask: dict[str, object] = dict(ask or {})


class Misuse(BackstayError, ValueError):
    """The caller's fault: found at import or configuration wherever possible, and nothing was changed."""


class MissingExtra(Misuse, ImportError):
    """An optional package is not installed; the text names the `pip install` that mends it."""
