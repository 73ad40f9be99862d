"""What a retry raises of its own; as a rule the last attempt's own error is raised."""

from __future__ import annotations

from typing import Any

from backstay.errors import OutcomeUnknown

__all__ = ["ResultRefused"]


class ResultRefused(OutcomeUnknown):
    """The call returned each time, but never a result that was wanted; what it did is done.

    Attributes:
        result: of the last attempt.
    """

    def __init__(self, message: str = "", *, result: Any = None) -> None:
        super().__init__(message)
        self.result = result
