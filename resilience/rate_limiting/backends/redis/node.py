"""One Redis server: its clock, and connections of both makes."""

from __future__ import annotations

import asyncio

from backstay.clock import Clock
from backstay.redis import Settings

from .connection import Pool
from .lane import Lane

__all__ = ["Node"]


class Node:
    """A server among those of a store.

    Args:
        settings: how to reach it.
        budget: seconds for each call.
        clock: monotonic seconds.
    """

    __slots__ = ("_ahead", "_budget", "_clock", "lanes", "pool", "settings")

    def __init__(self, settings: Settings, *, budget: float, clock: Clock) -> None:
        self.settings = settings
        self._budget = budget
        self._clock = clock
        self._ahead: int | None = None  # the server's microseconds minus ours: at most the true difference
        self.pool = Pool(settings, clock, self.hear)
        self.lanes: dict[asyncio.AbstractEventLoop, Lane] = {}

    def hear(self, server_us: int) -> None:
        """Learn the server's clock from a stamp that was just received.

        The stamp is older than its arrival, so the moments computed from it are early, never late.
        """
        if server_us:
            self._ahead = server_us - int(self._clock() * 1_000_000)

    def not_after(self, deadline: float) -> int:
        """Return `deadline` in the server's microseconds, 0 while its clock is not known."""
        return 0 if self._ahead is None else int(deadline * 1_000_000) + self._ahead

    def lane(self) -> Lane:
        """Return the running loop's connection."""
        loop = asyncio.get_running_loop()
        lane = self.lanes.get(loop)
        if lane is None:
            for ended in [known for known in tuple(self.lanes) if known.is_closed()]:
                self.lanes.pop(ended, None)
            lane = self.lanes[loop] = Lane(
                self.settings, loop, budget=self._budget, learned=self.hear, clock=self._clock
            )
        return lane

    def close_lane(self) -> bool:
        """Close the running loop's connection; return whether there was one."""
        lane = self.lanes.pop(asyncio.get_running_loop(), None)
        if lane is not None:
            lane.close()
        return lane is not None
