"""Out of time: after the call had begun, or before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from backstay.errors import OutcomeUnknown, Unavailable

__all__ = ["CallTimedOut", "DeadlineExceeded"]


class CallTimedOut(OutcomeUnknown, TimeoutError):
    """The call had begun and was given up: it may have taken effect, and in a thread it may still be running.

    Args:
        message: what timed out, and after how long.
        ask: what to ask with later, as for every unknown outcome.
    """

    http_status: ClassVar[int] = 504
    title: ClassVar[str] = "Timed out"

    def __init__(self, message: str = "", *, ask: Mapping[str, object] | None = None) -> None:
        super().__init__(message, ask=ask)


class DeadlineExceeded(Unavailable, TimeoutError):
    """The deadline had passed before the call was begun, so nothing was done."""

    http_status: ClassVar[int] = 504
    title: ClassVar[str] = "Out of time"
