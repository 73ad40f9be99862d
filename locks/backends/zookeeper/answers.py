"""What kazoo's errors mean: the one place where they become ours."""

from __future__ import annotations

from kazoo import exceptions

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask

__all__ = ["GONE", "NO_NODE", "failure", "silent", "unreached"]

_REFUSED = (
    exceptions.NoAuthError,
    exceptions.AuthFailedError,
    exceptions.InvalidACLError,
    exceptions.SessionClosedRequireSaslError,
)
_FOR_GOOD = (
    exceptions.MarshallingError,
    exceptions.BadArgumentsError,
    exceptions.EphemeralOnLocalSessionError,
    exceptions.QuotaExceededError,
    exceptions.NoChildrenForEphemeralsError,
)
_NOT_NOW = (exceptions.NotReadOnlyCallError, exceptions.ThrottledOpError)
"""The server did nothing and may do it later."""

NO_NODE: type[BaseException] = exceptions.NoNodeError
GONE: tuple[type[BaseException], ...] = (exceptions.SessionExpiredError,)
"""The session is over: nothing that lives with it exists any more, whatever became of the request."""


def unreached(label: str, why: str) -> Unavailable:
    """Return the error for a request that never left."""
    return Unavailable(f"{label} was not reached: {why}")


def silent(label: str, seconds: float, wrote: bool) -> BackstayError:
    """Return the error for a request that was not answered in time."""
    text = f"{label} did not answer in {seconds:.3g} s"
    return OutcomeUnknown(text) if wrote else Unavailable(text)


def failure(label: str, error: BaseException, wrote: bool) -> BackstayError:
    """Return what an error answer, or the end of a connection, means for a request."""
    text = mask(str(error)) or type(error).__name__
    made: BackstayError
    if isinstance(error, _REFUSED):
        made = Misuse(f"{label} refused the credentials: {text}; may they read, write, create and delete here?")
    elif isinstance(error, _FOR_GOOD):
        made = Misuse(f"{label} refused a lock's request: {text}")
    elif isinstance(error, _NOT_NOW):
        made = Unavailable(f"{label} does not serve writes now: {text}")
    elif wrote and not isinstance(error, GONE):
        made = OutcomeUnknown(f"{label} did not answer: {text}")
    else:
        made = Unavailable(f"{label} did not answer: {text}")
    made.__cause__ = error
    return made
