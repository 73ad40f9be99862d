"""What the driver's errors mean: the one place where they become ours."""

from __future__ import annotations

from typing import Any

from redis import exceptions

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask

__all__ = ["Redirected", "not_reached", "refused", "text_of", "unanswered"]

_NOT_NOW = ("LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY ", "NOREPLICAS", "OOM", "UNKILLABLE")
_NOT_NOW_KINDS = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.OutOfMemoryError,
)
"""Answers of a server that did nothing and may do it later (R9). The driver cuts off the first word of some."""
_CREDENTIALS = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)


class Redirected(Unavailable):
    """A Cluster's node did nothing, and named the one that serves the slot.

    Args:
        message: for the case that nobody follows it.
        slot: which one.
        host, port: of the other; the host is empty where it is the one that was asked.
        once: only this request goes there (ASK); otherwise the slot has moved (MOVED).
    """

    def __init__(self, message: str, *, slot: int, host: str, port: int, once: bool) -> None:
        super().__init__(message)
        self.slot, self.host, self.port, self.once = slot, host, port, once


def not_reached(label: str, error: BaseException) -> Unavailable:
    """Return the error for a request that never left."""
    failure = Unavailable(f"{label} was not reached: {text_of(error)}")
    failure.__cause__ = error
    return failure


def unanswered(label: str, error: BaseException) -> OutcomeUnknown:
    """Return the error for a request that left and was not answered."""
    failure = OutcomeUnknown(f"{label} did not answer: {text_of(error)}")
    failure.__cause__ = error
    return failure


def refused(label: str, error: Exception, what: str) -> BackstayError:
    """Return what an error answer of the server means.

    Args:
        label: the server's name.
        error: its answer.
        what: what it refused, where that is neither for now nor for the credentials.
    """
    text = str(error)
    failure: BackstayError
    if isinstance(error, exceptions.AskError):  # and MovedError, which derives from it
        told: Any = error  # the driver does not say of what types its fields are
        failure = Redirected(
            f"{label} is a node of a Redis Cluster that does not serve slot {told.slot_id}; "
            "connect with redis+cluster://",
            slot=int(told.slot_id),
            host=str(told.host),
            port=int(told.port),
            once=not isinstance(error, exceptions.MovedError),
        )
    elif isinstance(error, _NOT_NOW_KINDS) or text.startswith(_NOT_NOW):
        failure = Unavailable(f"{label} does not serve writes now: {text_of(error)}")
    elif isinstance(error, _CREDENTIALS):
        failure = Misuse(f"{label} refused the credentials: {text_of(error)}")
    else:
        failure = Misuse(f"{label} refused {what}: {text_of(error)}")
    failure.__cause__ = error
    return failure


def text_of(error: BaseException) -> str:
    """Return an error's text without secrets, its type where it has none."""
    return mask(str(error)) or type(error).__name__
