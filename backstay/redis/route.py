"""Where a key is served now: the port of what follows Sentinel or a Cluster, and asking once for all."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from backstay.runtime import Runtime, Signal

__all__ = ["AGAIN", "ASK_WITHIN", "Inquiry", "Place", "Route"]

Place = tuple[str, int]
"""Host and port of a server."""

ASK_WITHIN = 0.5  # s for one question about the servers: one of them may be frozen, and the next one knows
AGAIN = 0.1  # s between two questions where the answer did not help; a failover takes seconds


class Route(Protocol):
    """Knows the servers, in either make."""

    @property
    def places(self) -> frozenset[Place]:
        """Those that serve writes, as last heard; another object whenever that changed."""
        ...

    async def place(self, key: str, timeout: float) -> Place:
        """Return the server of a key; asks, within `timeout` seconds, where that is not known or doubted.

        Raises:
            Unavailable: nobody could tell in time.
            Misuse: the servers are not what the URL says.
        """
        ...

    def doubt(self, place: Place) -> None:
        """Ask again before the next use: this server did not answer, or does not serve writes."""
        ...

    def forked(self) -> None:
        """Forget who asks in the parent process."""
        ...


class Inquiry:
    """Lets one caller ask while the others who want to know the same wait for it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._mutex = runtime.mutex()
        self._asked: Signal | None = None

    def forked(self) -> None:
        """Begin anew: whoever was asking is a thread of the parent."""
        self._mutex, self._asked = self._runtime.mutex(), None

    async def join(self, ask: Callable[[], Coroutine[Any, Any, None]], timeout: float) -> None:
        """Ask, or wait until somebody else has asked.

        Raises:
            Exception: what `ask` raises, for the one who asks.
        """
        with self._mutex:
            asked, mine = self._asked, self._runtime.signal()
            if asked is None:
                self._asked = mine
        if asked is not None:
            await asked.wait(timeout)
            return
        try:
            await ask()
        finally:
            with self._mutex:
                self._asked = None
            mine.set()
