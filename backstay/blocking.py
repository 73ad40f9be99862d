"""The runtime of plain threads, and `drive`, which runs a coroutine that never suspends.

In blocking code every port is an `async def` around a blocking call, so a protocol's coroutine runs from
its first line to its last in one `send`. `drive` does that send. It costs about half a microsecond.
"""

from __future__ import annotations

import contextvars
import random
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from backstay.clock import monotonic
from backstay.runtime import Job
from backstay.telemetry import announce

__all__ = ["BlockingRuntime", "Suspended", "drive"]

T = TypeVar("T")


class Suspended(BaseException):
    """A coroutine that was driven tried to suspend: an asyncio port was handed to blocking code.

    It is a `BaseException` because protocols catch `Exception` around single steps (a quorum goes on
    when one node fails) and would swallow this programming error.
    """


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends and return its result.

    Raises:
        Suspended: the coroutine awaited something that really waits; it is closed first.
    """
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # typeshed: StopIteration.value is Any
    work.close()
    raise Suspended(f"{work!r} suspended in blocking code; a port of the asyncio make was handed in")


class _Signal:
    """A `threading.Event` with the port's `wait`."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self, timeout: float | None = None) -> bool:
        return self._event.wait(None if timeout is None else max(0.0, timeout))


class _ThreadJob:
    """A daemon thread that drives one coroutine; on the list of background work until it ends well."""

    __slots__ = ("_cancelled", "_entry", "_thread")

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._cancelled = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._run, work), name=name, daemon=True)
        self._entry = announce(name, self._thread.is_alive)
        self._thread.start()

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._cancelled:
            drive(work())
        self._entry.close()  # not after an error: work that died is listed as dead

    def cancel(self) -> None:
        self._cancelled = True

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    async def join(self, timeout: float | None = None) -> bool:
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return self.done


class BlockingRuntime:
    """Threads: every wait blocks the calling thread, side work runs in daemon threads."""

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    now = staticmethod(monotonic)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)

    async def gather(self, *work: Callable[[], Coroutine[Any, Any, T]]) -> list[T | Exception]:
        """Drive the first piece in the calling thread and the others in threads of their own."""
        if len(work) == 1:
            return [_outcome(work[0])]
        if not work:
            return []
        with ThreadPoolExecutor(max_workers=len(work) - 1, thread_name_prefix="backstay-gather") as pool:
            # One copy of the context a piece: a context cannot be entered twice at the same time.
            others = [pool.submit(contextvars.copy_context().run, _outcome, piece) for piece in work[1:]]
            first = _outcome(work[0])
            return [first, *(other.result() for other in others)]

    async def shield(self, work: Coroutine[Any, Any, T]) -> T:
        return drive(work)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> Job:
        return _ThreadJob(work, name)

    def signal(self) -> _Signal:
        return _Signal()

    def mutex(self) -> threading.Lock:
        return threading.Lock()


def _outcome(piece: Callable[[], Coroutine[Any, Any, T]]) -> T | Exception:
    try:
        return drive(piece())
    except Exception as error:
        return error
