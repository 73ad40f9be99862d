"""Calls in flight in one event loop, waiting in line for one timer.

All calls of one timeout take equally long, so their deadlines come in the order of their beginnings: a dict keeps
them in that order and one timer, armed for the first, serves all. A finished call leaves the dict at once, whatever
its place. `asyncio.timeout` makes and cancels a timer for each call, which costs six times as much.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop, Task, TimerHandle
from contextvars import Context
from typing import Any

from backstay.clock import Clock

__all__ = ["Line", "Pace"]


class Line:
    """The calls of one timeout in one loop, or one call whose deadline is not its turn.

    A call that does not find its key again when it ends was taken out by the timer: it was cancelled for being late.
    """

    __slots__ = ("_clock", "_loop", "_timer", "armed", "calls", "seconds")

    def __init__(self, loop: AbstractEventLoop, clock: Clock, seconds: float) -> None:
        self.calls: dict[object, tuple[float, Task[Any]]] = {}
        self.seconds = seconds
        self.armed = False
        self._loop = loop
        self._clock = clock
        self._timer: TimerHandle | None = None

    def arm(self, due: float) -> None:
        """Set the timer to the first call's deadline."""
        self.armed = True
        # An empty context, or the first caller's variables would live as long as the timer.
        self._timer = self._loop.call_later(max(0.0, due - self._clock()), self._ring, context=Context())

    def disarm(self) -> None:
        """Forget the timer: the line is given up."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        now = self._clock()
        late: list[object] = []
        following: float | None = None
        for key, (due, _) in self.calls.items():
            if due > now:
                following = due
                break
            late.append(key)
        for key in late:
            self.calls.pop(key)[1].cancel()
        if following is None:
            self.armed = False
        else:
            self.arm(following)


class Pace:
    """One duration and its lines, one a loop. A new duration is a new pace: an old line empties by itself."""

    __slots__ = ("_clock", "_opening", "lines", "seconds")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self.lines: dict[AbstractEventLoop, Line] = {}
        self._clock = clock
        self._opening = threading.Lock()

    def open(self, loop: asyncio.AbstractEventLoop) -> Line:
        """Return the line of a loop that has none yet; lines of loops that were closed go."""
        line = Line(loop, self._clock, self.seconds)
        with self._opening:
            self.lines = {known: kept for known, kept in self.lines.items() if not known.is_closed()}
            self.lines[loop] = line
        return line

    def renew(self) -> None:
        """Replace the lock, which a thread of the parent may hold, and leave the parent's loops alone."""
        self._opening = threading.Lock()
        self.lines = {}
