"""One of N workers runs it: work that an election keeps in exactly one process, started and stopped with a service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from backstay.errors import Misuse
from backstay.telemetry import announce

from .. import fork
from ..elections.election import AsyncElection, Election
from ..elections.leadership import AsyncLeadership, Leadership
from ..elections.standing import RESIGN_WITHIN

__all__ = ["AsyncSingleton", "Singleton"]

logger = logging.getLogger("backstay.locks")

R = TypeVar("R")

AGAIN = 1.0  # s before a body that raised is run again, at the least; the hold-down of its election comes on top


class Singleton:
    """Work in a thread that one process of all runs, and another when that one ends.

        @locks.singleton("scheduler")
        def scheduler(leadership):
            while not leadership.lost.wait(60):
                send_reminders()

        scheduler.start()                                # Flask, Celery, scripts
        app = FastAPI(lifespan=scheduler.lifespan)       # FastAPI, Starlette

    Work that raises is logged, and runs again, here or elsewhere. Work that returns is done: this process stands no
    more, the others do. The interpreter's end, `stop()` and the end of a `with` block give the seat back as soon as
    the work has ended; work that does not end within 5 s keeps it until its ttl is over, or until the process ends.
    """

    def __init__(self, election: Election, body: Callable[[Leadership], object]) -> None:
        self._election, self._body = election, body
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        fork.watch(self)

    @property
    def election(self) -> Election:
        """The election that decides where the work runs."""
        return self._election

    def start(self) -> Singleton:
        """Stand for election from now on, in a daemon thread; a second call does nothing.

        In a process that forks afterwards (a preloading web server), the children do not stand: start it in each.
        """
        with self._mutex:
            if self._thread is None or not self._thread.is_alive():
                self._stopped = threading.Event()
                name = f"backstay-locks-singleton-{self._election.name}"
                self._thread = threading.Thread(target=self._run, args=(self._stopped,), name=name, daemon=True)
                self._thread.start()
        return self

    def stop(self, within: float = RESIGN_WITHIN) -> bool:
        """Ask the work to end, wait for it at most `within` seconds, and return whether nothing of it runs any more."""
        with self._mutex:
            thread = self._thread
            self._stopped.set()
        self._election.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(within)
        return thread is None or not thread.is_alive()

    def _run(self, stopped: threading.Event) -> None:
        entry = announce(threading.current_thread().name, threading.current_thread().is_alive)
        try:
            self._stand(stopped)
        finally:
            entry.close()

    def _stand(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            try:
                self._election.run(self._body)
                return
            except Misuse as error:
                if not stopped.is_set():
                    logger.error("singleton %r stands no more: %s", self._election.name, error)
                return
            except Exception:
                logger.exception("singleton %r failed and stands again", self._election.name)
                stopped.wait(AGAIN)

    def __enter__(self) -> Singleton:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None, None]:
        """Stand while an ASGI application serves: `FastAPI(lifespan=scheduler.lifespan)`."""
        self.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.stop)

    def __call__(self, leadership: Leadership) -> object:
        """Run the work itself, as a test may want to."""
        return self._body(leadership)

    def forked(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._mutex, self._thread = threading.Lock(), None
        self._stopped = threading.Event()


class AsyncSingleton(Generic[R]):
    """Work in a task that one process of all runs, and another when that one ends.

        @locks.singleton("scheduler")
        async def scheduler(leadership):
            while True:
                await send_reminders()
                await asyncio.sleep(60)

        app = FastAPI(lifespan=scheduler.lifespan)

    Work that raises is logged, and runs again, here or elsewhere. Work that returns is done: this process stands no
    more, the others do. It is cancelled when its leadership is over; `stop()` and the end of an `async with` block
    wait for its end and give the seat back.
    """

    def __init__(self, election: AsyncElection, body: Callable[[AsyncLeadership], Coroutine[Any, Any, R]]) -> None:
        self._election, self._body = election, body
        self._task: asyncio.Task[None] | None = None

    @property
    def election(self) -> AsyncElection:
        """The election that decides where the work runs."""
        return self._election

    def start(self) -> AsyncSingleton[R]:
        """Stand for election from now on, in a task of the running loop; a second call does nothing."""
        if self._task is None or self._task.done() or self._task.get_loop() is not asyncio.get_running_loop():
            name = f"backstay-locks-singleton-{self._election.name}"
            self._task = asyncio.get_running_loop().create_task(self._run(), name=name)
        return self

    async def stop(self) -> None:
        """Cancel the work, wait for its end, and give the seat back."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        while True:
            try:
                await self._election.run(self._body)
                return
            except Misuse as error:
                logger.error("singleton %r stands no more: %s", self._election.name, error)
                return
            except Exception:
                logger.exception("singleton %r failed and stands again", self._election.name)
                await asyncio.sleep(AGAIN)

    async def __aenter__(self) -> AsyncSingleton[R]:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None, None]:
        """Stand while an ASGI application serves: `FastAPI(lifespan=scheduler.lifespan)`."""
        async with self:
            yield

    async def __call__(self, leadership: AsyncLeadership) -> R:
        """Run the work itself, as a test may want to."""
        return await self._body(leadership)
