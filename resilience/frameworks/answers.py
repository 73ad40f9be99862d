"""Which answers of a service are failures, and how policies hear of them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Final, TypeAlias

from backstay.errors import BackstayError

from ..circuit_breaker.retry_after import retry_after_of
from ..policy import Admitting, Colour, Policy, Settle, Target

__all__ = ["SERVER_ERRORS", "FailedAnswer", "Policies", "listed", "outcome", "request_target", "settle_once"]

SERVER_ERRORS: Final = range(500, 600)
"""The statuses that count as failures unless others are named."""

Policies: TypeAlias = "Policy | Admitting | Sequence[Policy | Admitting]"
"""One policy (or pipeline) or several, the outermost first."""


class FailedAnswer(BackstayError):
    """An answer whose status counts as a failure; policies hear of it, callers get the answer itself.

    Attributes:
        status: of the answer.
        response: of a service that was called; None for what an application of our own answered.
        retry_after: seconds that the answer asked to wait for, or None.
    """

    http_status = 502
    title = "Bad answer"

    def __init__(self, status: int, *, response: Any = None) -> None:
        super().__init__(f"answered {status}")
        self.status = status
        self.response = response
        self.retry_after: float | None = None
        self.retry_after = retry_after_of(self) or None


def outcome(status: int | None, failures: Container[int]) -> FailedAnswer | None:
    """Return what an answer of `status` is to policies: None where it is a success. No answer at all is a failure."""
    if status is None:
        return FailedAnswer(500)
    return FailedAnswer(status) if status in failures else None


def listed(policies: Policies) -> tuple[Policy, ...]:
    """Return the policies as they are, outermost first."""
    several: Any = policies if isinstance(policies, Sequence) else (policies,)
    return tuple(several)


def request_target(name: str, *, is_async: bool) -> Target:
    """Return the target that all requests stand for; keys of limits are functions of the request."""
    colour = Colour.COROUTINE if is_async else Colour.FUNCTION
    return Target(function=_request, resource=name, label=name, colour=colour)


def _request(request: Any) -> None:
    """Stand for a request: the ASGI scope, the WSGI environ, the connection."""


def settle_once(settle: Settle) -> Settle:
    """Return `settle` so that the first call counts and others do nothing."""
    waiting = [settle]

    def once(error: BaseException | None) -> None:
        try:
            tell = waiting.pop()  # atomic: a stream's end and its collection may come from two threads
        except IndexError:
            return
        tell(error)

    return once
