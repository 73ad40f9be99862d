"""Transactions that a database gave up for the sake of another: repeated after a short, random wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..journals.database import conflicting as conflicts

__all__ = ["conflicting", "wait", "wait_async"]


def conflicting(error: BaseException) -> bool:
    """Return whether `error`, or what it came from, is a conflict between two transactions."""
    cause: BaseException | None = error
    while cause is not None:
        if conflicts(cause):
            return True
        cause = cause.__cause__
    return False


def _seconds(attempt: int, uniform: Callable[[float, float], float]) -> float:
    return uniform(0.0, 0.005 * 2.0 ** min(attempt, 6))


def wait(attempt: int, uniform: Callable[[float, float], float]) -> None:
    """Wait, blocking, before attempt number `attempt` + 1."""
    time.sleep(_seconds(attempt, uniform))


async def wait_async(attempt: int, uniform: Callable[[float, float], float]) -> None:
    """Wait, in the loop, before attempt number `attempt` + 1."""
    await asyncio.sleep(_seconds(attempt, uniform))
