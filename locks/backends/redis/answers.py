"""What the driver's errors mean: the one place where they become ours, and the port of a wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redis import exceptions

from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask

from .scripts import Script

__all__ = ["Request", "Wire", "not_reached", "refusal", "unanswered"]

_NOT_NOW = ("LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY ", "MOVED", "NOREPLICAS", "OOM")
"""Answers of a server that did nothing and may do it later (R9)."""
_CREDENTIALS = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)


class Request:
    """One script with its keys and arguments."""

    __slots__ = ("arguments", "keys", "script")

    def __init__(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> None:
        self.script, self.keys, self.arguments = script, keys, arguments


class Wire(Protocol):
    """Exchanges with one Redis server, in either make."""

    async def call(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int], timeout: float
    ) -> tuple[Any, bool]:
        """Run a script; return its answer, and whether an earlier copy of the request may have run as well.

        Raises:
            Unavailable: it was not sent, or the server refused to run anything now.
            OutcomeUnknown: it was sent and not answered.
            Misuse: the server refused it for good.
        """
        ...

    async def call_all(self, requests: Sequence[Request], timeout: float) -> list[Any]:
        """Run scripts in one go; an error answer stands as a `BackstayError` in its place."""
        ...

    async def close(self) -> None:
        """Drop the connections."""
        ...

    def forked(self) -> None:
        """Forget connections that a parent process uses, without closing what it shares."""
        ...


def not_reached(label: str, error: BaseException) -> Unavailable:
    """Return the error for a request that never left."""
    failure = Unavailable(f"{label} was not reached: {_text(error)}")
    failure.__cause__ = error
    return failure


def unanswered(label: str, error: BaseException) -> OutcomeUnknown:
    """Return the error for a request that left and was not answered."""
    failure = OutcomeUnknown(f"{label} did not answer: {_text(error)}")
    failure.__cause__ = error
    return failure


def refusal(label: str, error: Exception) -> BackstayError:
    """Return what an error answer of the server means."""
    text = str(error)
    failure: BackstayError
    if isinstance(error, (exceptions.BusyLoadingError, exceptions.ReadOnlyError)) or text.startswith(_NOT_NOW):
        failure = Unavailable(f"{label} does not serve writes now: {_text(error)}")
    elif isinstance(error, _CREDENTIALS):
        failure = Misuse(f"{label} refused the credentials: {_text(error)}")
    else:
        failure = Misuse(
            f"{label} refused a lock's script: {_text(error)}; "
            "do other programs write to keys that begin with 'backstay:'?"
        )
    failure.__cause__ = error
    return failure


def _text(error: BaseException) -> str:
    return mask(str(error)) or type(error).__name__
