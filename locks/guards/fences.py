"""Where the highest fence of each lock is remembered, and the smallest such place: this process.

A store answers one question, in one atomic step: is this fence at least the highest seen of its lock, and if
so, is it remembered? It stands before resources that cannot compare a fence in their own write.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from backstay.errors import Misuse, Unavailable

from .errors import StaleFence
from .token import Fenced, token_of

__all__ = ["AsyncFences", "Fences", "MemoryFences", "checked_fences"]


class Fences(Protocol):
    """The highest fence of each lock."""

    def admit(self, lease: Fenced) -> None:
        """Let a fence pass that is at least the highest seen of its lock, and remember it.

        Raises:
            StaleFence: a higher one was seen before.
        """
        ...


class AsyncFences(Protocol):
    """The highest fence of each lock, for asyncio."""

    async def admit(self, lease: Fenced) -> None:
        """Let a fence pass that is at least the highest seen of its lock, and remember it.

        Raises:
            StaleFence: a higher one was seen before.
        """
        ...


class MemoryFences:
    """The highest fences seen by this process; gone when it ends.

    Good for a service of one process whose resource is in its memory as well; else the SQL or Redis store.

    Args:
        limit: how many locks are remembered. A further one is refused (`Unavailable`): to forget one of the
            others would let its late writers pass.
    """

    def __init__(self, *, limit: int = 1_000_000) -> None:
        if limit < 1:
            raise Misuse(f"limit must be at least 1 lock, got {limit}")
        self._limit = limit
        self._highest: dict[str, int] = {}
        self._mutex = threading.Lock()

    def admit(self, lease: Fenced) -> None:
        """Let a fence pass that is at least the highest seen of its lock, and remember it.

        Raises:
            StaleFence: a higher one was seen before.
            Unavailable: it is the first of its lock, and as many locks are remembered as may be.
        """
        token = token_of(lease)
        with self._mutex:
            highest = self._highest.get(token.name)
            if highest is None and len(self._highest) >= self._limit:
                raise Unavailable(
                    f"the fences of {self._limit} locks are remembered here already; raise the limit, or keep them "
                    "in SQL or Redis"
                )
            if highest is None or token.fence >= highest:
                self._highest[token.name] = token.fence
                return
        raise StaleFence.at("this process", lock=token.name, fence=token.fence, highest=highest)


def checked_fences(fences: Fences | AsyncFences) -> Any:
    """Return `fences` if it is a store.

    Raises:
        Misuse: it has no `admit`.
    """
    given: Any = fences
    if not callable(getattr(given, "admit", None)):
        raise Misuse(f"the highest fences must be kept in a store such as MemoryFences(), got {type(given).__name__}")
    return given
