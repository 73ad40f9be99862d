"""The port through which protocols reach time, concurrency and cancellation.

A protocol is written once, as coroutines over ports. It is run by one of three runtimes: `blocking`
(threads; nothing ever suspends), `asynchronous` (asyncio) and `simulation` (virtual time and seeded
faults). A protocol imports neither `asyncio` nor `threading` nor `time`; this port is all it may use.

Two rules that every protocol keeps:

* Clean-up that must finish goes through `Runtime.shield`, the whole of it, not only its last call.
* `except BaseException:` with an `await` behind it must let `GeneratorExit` pass first; a coroutine
  that awaits while it is being closed dies with "coroutine ignored GeneratorExit".
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

__all__ = ["Job", "Runtime", "Signal"]

T = TypeVar("T")


class Signal(Protocol):
    """A flag that somebody waits for: an event that can be cleared."""

    def set(self) -> None:
        """Raise the flag and wake every waiter; safe from any thread."""
        ...

    def clear(self) -> None:
        """Lower the flag."""
        ...

    def is_set(self) -> bool:
        """Return whether the flag is up."""
        ...

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is up or `timeout` seconds have passed; return whether it is up."""
        ...


class Job(Protocol):
    """Work that runs beside its caller."""

    def cancel(self) -> None:
        """Ask the work to stop at its next wait.

        A thread cannot be interrupted: in the blocking runtime this drops work that has not started, and
        work that has started goes on. Long work therefore waits on a `Signal` of its own.
        """
        ...

    @property
    def done(self) -> bool:
        """Whether the work has ended, in whatever way."""
        ...

    async def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the work, at most `timeout` seconds; return whether it has ended."""
        ...


class Runtime(Protocol):
    """Time, chance, concurrency and shelter from cancellation."""

    def now(self) -> float:
        """Return monotonic seconds (see `backstay.clock`)."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`, for jitter; not for secrets."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        ...

    async def gather(self, *work: Callable[[], Coroutine[Any, Any, T]]) -> list[T | Exception]:
        """Run all of `work` side by side; return results in the order given, an `Exception` in place of a result.

        Every piece has ended when this returns. Context variables, and with them the current span, are
        those of the caller.
        """
        ...

    async def shield(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end even if the caller is cancelled meanwhile; the cancellation is raised afterwards."""
        ...

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> Job:
        """Start `work` beside the caller, as a daemon; `name` is what operators see."""
        ...

    def signal(self) -> Signal:
        """Return a new lowered flag."""
        ...

    def mutex(self) -> AbstractContextManager[object]:
        """Return a lock for a few lines without an await: a real one in threads, nothing elsewhere."""
        ...
