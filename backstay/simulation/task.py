"""Coroutines on simulated hosts, and the one thing they wait for: an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from backstay.errors import Misuse

if TYPE_CHECKING:
    from backstay.simulation.host import Host

__all__ = ["Deadlock", "Event", "Park", "Task"]

T = TypeVar("T")


class Deadlock(AssertionError):
    """Started work waits for something that can no longer happen."""


class Event(Generic[T]):
    """Something that happens once, with a value or an error."""

    __slots__ = ("callbacks", "error", "happened", "value")

    def __init__(self) -> None:
        self.happened = False
        self.value: T | None = None
        self.error: BaseException | None = None
        self.callbacks: list[Callable[[], None]] = []

    def set(self, value: T | None = None, error: BaseException | None = None) -> None:
        if not self.happened:
            self.happened, self.value, self.error = True, value, error
            for callback in self.callbacks:
                callback()
            self.callbacks.clear()


class Park:
    """What a task yields: `arm` is told how to wake it."""

    __slots__ = ("arm",)

    def __init__(self, arm: Callable[[Callable[[], None]], None]) -> None:
        self.arm = arm

    def __await__(self) -> Generator[Park, None, None]:
        yield self


class Task(Generic[T]):
    """A coroutine on a host; also the `Job` that `Runtime.spawn` returns."""

    __slots__ = ("_event", "_turn", "_work", "host", "interrupt", "name", "queued")

    def __init__(self, host: Host, work: Coroutine[Any, Any, T], name: str) -> None:
        self.host, self.name = host, name
        self._work: Coroutine[Any, Any, T] | None = work
        self._event: Event[T] = Event()
        self._turn = 0  # wake-ups of an earlier wait carry an older number and are void
        self.interrupt: BaseException | None = None
        self.queued = True  # a new task stands among the runnable ones

    def __repr__(self) -> str:
        return f"{self.host.name}/{self.name}"

    @property
    def done(self) -> bool:
        return self._event.happened

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if not self._event.happened:
            raise Deadlock(f"{self!r} has not ended")
        if self._event.error is not None:
            raise self._event.error
        return cast("T", self._event.value)

    def cancel(self) -> None:
        """Raise `CancelledError` in the work at its present or next wait."""
        if not self.done:
            self.interrupt = asyncio.CancelledError()
            self._wake(self._turn)

    async def join(self, timeout: float | None = None) -> bool:
        await self.host.world.until(self._event, timeout, self.host)
        return self.done

    def _wake(self, turn: int) -> None:
        if turn == self._turn and not self.queued and not self.done:
            self.queued = True
            self.host.world.ready.append(self)

    def step(self) -> None:
        """Run to the next wait."""
        work = self._work
        if work is None:
            return
        self.queued = False
        self._turn += 1
        error, self.interrupt = self.interrupt, None
        world = self.host.world
        world.current = self
        try:
            park = work.send(None) if error is None else work.throw(error)
        except StopIteration as end:
            self.end(end.value, None)
        except BaseException as failure:
            self.end(None, failure)
        else:
            if not isinstance(park, Park):
                raise Misuse(f"{self!r} awaited {park!r}, which is not of this world: hand it the simulation's ports")
            turn = self._turn
            park.arm(lambda: self._wake(turn))
        finally:
            world.current = None

    def end(self, value: T | None, error: BaseException | None) -> None:
        """Note the end; a dead host's tasks end without having run another line."""
        if self._work is not None:
            self.host.world.buried.append(self._work)
            self._work = None
        self._event.set(value, error)
