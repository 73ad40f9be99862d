"""Taking turns at a session, in two makes, without giving it up for a caller that is in a hurry.

A statement that nobody waits for any more may still be answered. Giving it up would end the session and every lock in
it, so it goes on in a thread of its own for as long as a statement may take, and what it won is given back afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from backstay.clock import monotonic
from backstay.errors import OutcomeUnknown, Unavailable

from .session import Session

__all__ = ["AsyncioTurns", "BlockingTurns", "Turns"]

T = TypeVar("T")


class Turns(Protocol):
    """Runs steps, one at a time."""

    async def run(self, step: Callable[[float], T], timeout: float) -> T:
        """Run `step(until)` with the session's turn; wait `timeout` seconds for its end."""
        ...

    async def close(self) -> None:
        """End the session and the thread."""
        ...

    def forked(self) -> None:
        """In a forked child: forget the thread."""
        ...


class _Turns:
    def __init__(self, session: Session, patience: float) -> None:
        self._session, self._patience = session, patience
        self._begin()

    def _begin(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="backstay-locks-session")

    def _in_turn(self, step: Callable[[float], T]) -> T:
        """Run a step for as long as a statement may take."""
        until = monotonic() + self._patience
        if not self._session.turn.acquire(timeout=self._patience):
            raise Unavailable(f"{self._session.label}: the session of locks was busy all the time")
        try:
            return step(until)
        finally:
            self._session.turn.release()

    def _submit(self, step: Callable[[float], T]) -> Future[T]:
        try:
            return self._thread.submit(self._in_turn, step)
        except RuntimeError as error:
            raise Unavailable(f"{self._session.label}: no thread to ask in: {error}") from error

    def _gone(self, running: Future[T]) -> OutcomeUnknown | Unavailable:
        if running.cancel():
            return Unavailable(f"{self._session.label}: the session of locks was busy, and nothing was sent")
        return OutcomeUnknown(f"{self._session.label} did not answer in time")

    def _end(self) -> None:
        with self._session.turn:
            self._session.end()

    def _renew_thread(self) -> None:
        self._thread.shutdown(wait=False)
        self._begin()  # it starts when there is work: withdrawals that the keeper still insists on

    def forked(self) -> None:
        """In a forked child: the thread is not here."""
        self._begin()


class BlockingTurns(_Turns):
    """In the calling thread where it has the time, else beside it."""

    async def run(self, step: Callable[[float], T], timeout: float) -> T:
        if timeout >= self._patience:
            return self._in_turn(step)
        running = self._submit(step)
        try:
            return running.result(timeout)
        except TimeoutError:
            if running.done():
                return running.result()
            raise self._gone(running) from None

    async def close(self) -> None:
        self._end()
        self._renew_thread()


class AsyncioTurns(_Turns):
    """In a thread beside the event loop."""

    async def run(self, step: Callable[[float], T], timeout: float) -> T:
        running = self._submit(step)
        waiting = asyncio.wrap_future(running)
        done, _ = await asyncio.wait({waiting}, timeout=timeout)
        if done:
            return waiting.result()
        error = self._gone(running)
        waiting.cancel()
        raise error

    async def close(self) -> None:
        await asyncio.wrap_future(self._submit(lambda until: self._session.end()))
        self._renew_thread()
