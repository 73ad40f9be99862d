"""Waiting for tokens, reservations and refunds, written once for both faces.

A caller that may wait takes its tokens at once, from the future: the bucket goes into debt, and everybody who comes
later comes behind it, whatever he costs. So the order is that of asking, nobody asks twice, and a caller whose time
would not be enough is refused at once and has taken nothing (RL-10). A caller that is cancelled while it waits gives
the tokens back, and those behind it in this process move forward.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from backstay.errors import Misuse
from backstay.runtime import Runtime

from ..policy import seconds
from .backend import AsyncReserving, Reserving, StoreFailed, Taken, Told
from .face import Face
from .reservation import Line, Ticket
from .telemetry import Waits

__all__ = ["Waiting"]


class Waiting:
    """The core of waiting on one limiter.

    Args:
        face: the limiter.
        runtime: time, and how to wait in it.
    """

    def __init__(self, face: Face, runtime: Runtime) -> None:
        buckets = face.buckets
        if not isinstance(buckets, Reserving | AsyncReserving):
            raise Misuse(f"rate limiter {face.name!r}: {type(buckets).__name__} cannot reserve; a token bucket can")
        self._face = face
        self._runtime = runtime
        self.line = Line(runtime)
        self._take: Callable[[str, int, float], Taken | Awaitable[Taken]] = buckets.take
        self._give: Callable[[str, int, int], bool | Awaitable[bool]] = buckets.give
        self._waits = Waits(face.name, face.resource, self._queued)

    def _queued(self) -> float:
        return self.line.waiting

    async def reserve(self, key: str, cost: int, max_wait: float) -> Ticket:
        """Take tokens that are there within `max_wait` seconds, or raise the refusal."""
        key, cost = self._face.check(key, cost)
        ahead = seconds(max_wait, "the time to wait", zero=True)
        try:
            taken: Taken = await _now(self._take(key, cost, ahead))
        except StoreFailed as failure:
            self._face.survive(key, cost, failure)
            return self.line.join(key, cost, None)
        if taken.balance <= 0:
            raise self._face.refuse(Told.of(taken.balance, taken.rate, taken.scale))
        return self.line.join(key, cost, taken)

    async def acquire(self, key: str, cost: int, wait: float) -> None:
        """Take tokens, waiting for them at most `wait` seconds."""
        runtime, waits = self._runtime, self._waits
        began = runtime.now()
        try:
            ticket = await self.reserve(key, cost, wait)
        except Exception:
            waits.limited.record(runtime.now() - began)
            raise
        if ticket.due > runtime.now():
            self.line.waiting += 1
            try:
                await self.line.wait(ticket)
            except GeneratorExit:  # nothing can be awaited any more
                self._leave_at_once(ticket)
                raise
            except BaseException:
                self._face.cancelled()
                waits.canceled.record(runtime.now() - began)
                await runtime.shield(self.cancel(ticket))
                raise
            finally:
                self.line.waiting -= 1
                self.line.leave(ticket)
        if ticket.taken is not None:
            self._face.admitted()
        waits.acquired.record(runtime.now() - began)

    async def cancel(self, ticket: Ticket) -> bool:
        """Give the tokens of a ticket back before its moment; return whether that was in time."""
        if not ticket.until or ticket.due <= self._runtime.now():
            return False
        self.line.leave(ticket)
        until, ticket.until = ticket.until, 0
        try:
            given: bool = await _now(self._give(ticket.key, ticket.cost, until))
        except StoreFailed:
            return False
        if given:
            ticket.until = until
            self.line.close_up(ticket)
            ticket.until = 0
        return given

    async def refund(self, key: str, cost: int) -> bool:
        """Give tokens back that were not used; return whether the bucket took any."""
        key, cost = self._face.check(key, cost)
        try:
            given: bool = await _now(self._give(key, cost, 0))
        except StoreFailed:
            return False
        return given

    def _leave_at_once(self, ticket: Ticket) -> None:
        """Give back without waiting, where the store allows it; a coroutine that is never awaited is closed."""
        self._face.cancelled()
        given = self._give(ticket.key, ticket.cost, ticket.until)
        if isinstance(given, bool):
            if given:
                self.line.close_up(ticket)
        else:
            _close(given)


async def _now(result: Any) -> Any:
    """Return what a port of either make gave."""
    if inspect.isawaitable(result):
        answer: Any = await result
        return answer
    return result


def _close(work: Any) -> None:
    work.close()
