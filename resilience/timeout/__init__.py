"""How long a call may take: `Timeout` frees the caller, `Deadline` tells those further in."""

from __future__ import annotations

from .cooperative import Deadline
from .deadline import deadline, remaining, within
from .errors import CallTimedOut, DeadlineExceeded
from .header import DEADLINE_HEADER, deadline_header, read_deadline
from .policy import AttemptTimeout, Timeout, Workers
from .settings import TimeoutSettings

__all__ = [
    "DEADLINE_HEADER",
    "AttemptTimeout",
    "CallTimedOut",
    "Deadline",
    "DeadlineExceeded",
    "Timeout",
    "TimeoutSettings",
    "Workers",
    "deadline",
    "deadline_header",
    "read_deadline",
    "remaining",
    "within",
]
