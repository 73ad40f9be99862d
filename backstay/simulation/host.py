"""A machine in the simulated world, and the runtime of what runs on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from backstay.simulation.task import Event, Task

if TYPE_CHECKING:
    from backstay.simulation.world import World

__all__ = ["Host"]

T = TypeVar("T")


class Signal:
    __slots__ = ("_event", "_host")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._event: Event[None] = Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        if self._event.happened:
            self._event = Event()

    def is_set(self) -> bool:
        return self._event.happened

    async def wait(self, timeout: float | None = None) -> bool:
        event = self._event
        await self._host.world.until(event, timeout, self._host)
        return event.happened


class Host:
    """A machine or process in the world, and the runtime of what runs on it.

    Args:
        offset: seconds that its clock is ahead of the world's.
        rate: seconds of its clock in one second of the world; 1.01 is a clock that is 1 % fast.
    """

    def __init__(self, world: World, name: str, offset: float, rate: float) -> None:
        self.world, self.name, self.offset, self.rate = world, name, offset, rate
        self.tasks: list[Task[Any]] = []
        self.dead = False
        self.stalled_until = 0.0

    def crash(self) -> None:
        """Stop at once: nothing of this host runs another line, not even clean-up."""
        self.dead = True
        for task in self.tasks:
            if not task.done:
                task.end(None, ConnectionResetError(f"{self.name} crashed"))
        self.tasks.clear()

    def restart(self) -> None:
        """Come back empty after a crash."""
        self.dead = False

    def stall(self, seconds: float) -> None:
        """Freeze for `seconds` of world time, as SIGSTOP or a long collection does; clocks go on."""
        self.stalled_until = max(self.stalled_until, self.world.time + seconds)
        self.world.at(seconds, lambda: None)

    async def request(self, serve: Callable[[], T], *, to: Host, timeout: float) -> T:
        """Have `serve` run on the host `to`, by a request and a reply that fare as the network says.

        Raises:
            ConnectionRefusedError: `to` was dead when the request arrived: it was not served.
            TimeoutError: no reply in `timeout` seconds of this host's clock: served, not served, or served later.
        """
        reply: Event[T] = Event()

        def arrive() -> None:
            if to.dead:
                self.world.message(to, self, lambda: reply.set(error=ConnectionRefusedError(to.name)))
                return
            try:
                value = serve()
            except Exception as error:
                refusal = error
                self.world.message(to, self, lambda: reply.set(error=refusal))
            else:
                self.world.message(to, self, lambda: reply.set(value))

        self.world.message(self, to, arrive)
        await self.world.until(reply, timeout, self)
        if not reply.happened:
            raise TimeoutError(f"no answer from {to.name} in {timeout} s")
        if reply.error is not None:
            raise reply.error
        return cast("T", reply.value)

    # -- the runtime port

    def now(self) -> float:
        return self.offset + self.rate * self.world.time

    def uniform(self, low: float, high: float) -> float:
        return self.world.random.uniform(low, high)

    async def sleep(self, seconds: float) -> None:
        await self.world.until(Event[None](), max(0.0, seconds), self)

    async def gather(self, *work: Callable[[], Coroutine[Any, Any, T]]) -> list[T | Exception]:
        tasks = [self.begin(piece(), "gather") for piece in work]
        try:
            for task in tasks:
                await task.join()
        except GeneratorExit:
            raise
        except BaseException:
            for task in tasks:
                task.cancel()
            await self.shield(_all(tasks))
            raise
        outcomes: list[T | Exception] = []
        for task in tasks:
            try:
                outcomes.append(task.result())
            except Exception as error:  # the port's promise: an error in place of a result
                outcomes.append(error)
        return outcomes

    async def shield(self, work: Coroutine[Any, Any, T]) -> T:
        task = self.begin(work, "shield")
        cancelled: asyncio.CancelledError | None = None
        while not task.done:
            try:
                await task.join()
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return task.result()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> Task[None]:
        return self.begin(work(), name)

    def signal(self) -> Signal:
        return Signal(self)

    def mutex(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def begin(self, work: Coroutine[Any, Any, T], name: str) -> Task[T]:
        """Put a task among the runnable ones."""
        task = Task(self, work, name)
        self.tasks.append(task)
        self.world.ready.append(task)
        return task


async def _all(tasks: list[Task[Any]]) -> None:
    for task in tasks:
        await task.join()
