"""Another attempt, where it is safe, soon enough and not too often."""

from __future__ import annotations

from .errors import ResultRefused
from .policy import Retry
from .retry_after import retry_after_of
from .settings import RetryOptions, RetrySettings
from .state import RetryState, attempt_number

__all__ = [
    "ResultRefused",
    "Retry",
    "RetryOptions",
    "RetrySettings",
    "RetryState",
    "attempt_number",
    "retry_after_of",
]
