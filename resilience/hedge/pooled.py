"""Attempts as jobs of a thread pool; those that lose run on, since no thread can be stopped (BH-4)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from backstay.errors import Unavailable
from backstay.telemetry import Counter

from ..policy import Call
from .race import Ended

__all__ = ["Pool", "Pooled"]


class Pool(Protocol):
    """What runs blocking attempts, such as a `concurrent.futures.ThreadPoolExecutor`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it on a thread; `Rejected` if there is no room."""
        ...


class Pooled:
    """The attempts of one call. What is let go is dropped if it has not begun, and counted until it ends if it has."""

    def __init__(
        self, pool: Pool, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], abandoned: Counter
    ) -> None:
        self._pool = pool
        self._call = call
        self._args = args
        self._kwargs = kwargs
        self._abandoned = abandoned
        self._futures: list[Future[Any]] = []
        self._ended: SimpleQueue[Ended] = SimpleQueue()

    def start(self) -> None:
        """Hand the next attempt to the pool.

        Raises:
            Rejected: the pool is full.
            Unavailable: it is shut down.
        """
        try:
            future = self._pool.submit(copy_context().run, self._call, *self._args, **self._kwargs)
        except RuntimeError as error:  # how an executor says that it is shut down, or broken
            raise Unavailable(f"the hedge's pool takes no more attempts: {error}") from error
        self._futures.append(future)
        future.add_done_callback(partial(self._done, len(self._futures)))

    def _done(self, number: int, future: Future[Any]) -> None:
        error: BaseException | None
        if future.cancelled():
            error = Unavailable("the hedge's pool was shut down before the attempt began")
        else:
            error = future.exception()
        self._ended.put(Ended(number=number, value=None if error else future.result(), error=error))

    async def next(self, wait: float | None) -> Ended | None:
        """Block until an attempt ends or the time is over."""
        try:
            return self._ended.get(timeout=wait)
        except Empty:
            return None

    def abandon(self) -> None:
        """Drop what has not begun; count what has."""
        for future in self._futures:
            if not future.done() and not future.cancel():
                self._abandoned.n += 1
                future.add_done_callback(self._left)

    def _left(self, future: Future[Any]) -> None:
        self._abandoned.n -= 1
