"""Guards at the resource: the late write of a holder that was paused is refused, whatever it believes.

A lease ends by time, and a process cannot see time pass while it is stopped. So the resource itself compares the
fence of each write with the highest that it has seen (criterion F6). `backstay.locks.guards.sqlalchemy` does so in
SQL databases, `.redis` in Redis, `.flask`, `.fastapi` and `.celery` at the door of a service or worker.
"""

from __future__ import annotations

from .errors import FenceMalformed, FenceMissing, StaleFence
from .fences import AsyncFences, Fences, MemoryFences
from .header import HEADER, headers
from .token import Fenced, FencingToken, current_token

__all__ = [
    "HEADER",
    "AsyncFences",
    "FenceMalformed",
    "FenceMissing",
    "Fenced",
    "Fences",
    "FencingToken",
    "MemoryFences",
    "StaleFence",
    "current_token",
    "headers",
]
