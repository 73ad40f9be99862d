"""Waiting without a queue: a waiter looks again after a random pause (K2), as masters that vote have no order."""

from __future__ import annotations

from collections.abc import Callable

from backstay.locks.backend import Note
from backstay.runtime import Runtime

__all__ = ["PollingLetter"]

RESERVE = 0.05  # s that are left for the masters to answer
FIRST, LONGEST = 0.004, 0.128  # s, the longest first pause, and what it grows to


class PollingLetter:
    """A waiter's place: no note ever comes, and each wait ends after a random pause."""

    __slots__ = ("_closed", "_pause", "_runtime")

    def __init__(self, runtime: Runtime, closed: Callable[[], bool]) -> None:
        self._runtime, self._closed = runtime, closed
        self._pause = FIRST

    @property
    def address(self) -> str:
        """A word that says that this waiter needs no mailbox; empty after the store was closed."""
        return "" if self._closed() else "polling"

    async def wait(self, timeout: float) -> Note | None:
        """Wait a little, longer each time."""
        # Two who came at once and split the votes must not come at once again; the lower end is 0 on purpose.
        pause = self._runtime.uniform(0.0, self._pause)
        # With less time left a question would more likely be cut off than answered, and the answer be "unknown".
        await self._runtime.sleep(timeout if timeout - pause < RESERVE else pause)
        self._pause = min(self._pause * 2.0, LONGEST)
        return None

    def close(self) -> None:
        """Nothing is kept."""
